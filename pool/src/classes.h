/*
 * classes.h - what can be done about each result code of SQLite 3.40, and why.
 *
 * To know before reading: a code that is not here (of a newer SQLite, or made up by an extension)
 * is of its primary code's class, and PP_FATAL when that is not here either. The class is written
 * without its PP_. "Ours" is this
 * connection's own doing; "others'" passes when they are done.
 */
/* SPDX-License-Identifier: MIT */
#ifndef POOL_CLASSES_H
#define POOL_CLASSES_H

/* clang-format off */
#define CODE_LIST(X) \
	/* No failures. */ \
	X(SQLITE_OK, FATAL, "not an error: nothing to run again") \
	X(SQLITE_OK_LOAD_PERMANENTLY, FATAL, "not an error: from an extension's entry point") \
	X(SQLITE_OK_SYMLINK, FATAL, "not an error: inside the VFS only") \
	X(SQLITE_ROW, FATAL, "not an error") \
	X(SQLITE_DONE, FATAL, "not an error") \
	X(SQLITE_NOTICE, FATAL, "only for sqlite3_log()") \
	X(SQLITE_NOTICE_RECOVER_WAL, FATAL, "only for sqlite3_log()") \
	X(SQLITE_NOTICE_RECOVER_ROLLBACK, FATAL, "only for sqlite3_log()") \
	X(SQLITE_WARNING, FATAL, "only for sqlite3_log()") \
	X(SQLITE_WARNING_AUTOINDEX, FATAL, "only for sqlite3_log()") \
	/* The statement is wrong, or its values are. */ \
	X(SQLITE_ERROR, FATAL, "the SQL is wrong, and stays so") \
	X(SQLITE_ERROR_MISSING_COLLSEQ, FATAL, "on_open has to register the collation") \
	X(SQLITE_ERROR_RETRY, RETRY_STATEMENT, "the preparation wants to be made again") \
	X(SQLITE_ERROR_SNAPSHOT, FATAL, "the user's snapshot is checkpointed away for good") \
	X(SQLITE_TOOBIG, FATAL, "the value or the text stays too long") \
	X(SQLITE_MISMATCH, FATAL, "the value's type stays wrong") \
	X(SQLITE_RANGE, FATAL, "there is no such parameter") \
	X(SQLITE_AUTH, FATAL, "the authorizer said no") \
	X(SQLITE_AUTH_USER, FATAL, "the user may not") \
	X(SQLITE_CONSTRAINT, FATAL, "the data says no; the caller has to decide") \
	X(SQLITE_CONSTRAINT_CHECK, FATAL, "the data says no") \
	X(SQLITE_CONSTRAINT_COMMITHOOK, FATAL, "the commit hook said no") \
	X(SQLITE_CONSTRAINT_FOREIGNKEY, FATAL, "the data says no") \
	X(SQLITE_CONSTRAINT_FUNCTION, FATAL, "an extension's function said no") \
	X(SQLITE_CONSTRAINT_NOTNULL, FATAL, "the data says no") \
	X(SQLITE_CONSTRAINT_PRIMARYKEY, FATAL, "the data says no") \
	X(SQLITE_CONSTRAINT_TRIGGER, FATAL, "a trigger's RAISE said no") \
	X(SQLITE_CONSTRAINT_UNIQUE, FATAL, "the data says no") \
	X(SQLITE_CONSTRAINT_VTAB, FATAL, "a virtual table said no") \
	X(SQLITE_CONSTRAINT_ROWID, FATAL, "the data says no") \
	X(SQLITE_CONSTRAINT_PINNED, FATAL, "a trigger deleted the row that is being updated") \
	X(SQLITE_CONSTRAINT_DATATYPE, FATAL, "the data says no") \
	/* Somebody stopped it. */ \
	X(SQLITE_ABORT, FATAL, "a callback asked for it") \
	X(SQLITE_ABORT_ROLLBACK, FATAL, "ours: a ROLLBACK cut the statement") \
	X(SQLITE_INTERRUPT, FATAL, "who interrupted does not want it run again") \
	/* Somebody is in the way. */ \
	X(SQLITE_BUSY, RETRY_TRANSACTION, "others' lock; repeating a statement can deadlock") \
	X(SQLITE_BUSY_RECOVERY, RETRY_TRANSACTION, "another process recovers the WAL") \
	X(SQLITE_BUSY_SNAPSHOT, RETRY_TRANSACTION, "what was read is stale for good") \
	X(SQLITE_BUSY_TIMEOUT, RETRY_TRANSACTION, "others' lock, waited for in the kernel") \
	X(SQLITE_LOCKED, FATAL, "ours: a statement of this connection is still running") \
	X(SQLITE_LOCKED_SHAREDCACHE, RETRY_STATEMENT, "others' lock on a table") \
	X(SQLITE_LOCKED_VTAB, FATAL, "ours: a statement still reads the virtual table") \
	X(SQLITE_SCHEMA, RETRY_STATEMENT, "the schema changed too often while it was prepared") \
	X(SQLITE_PROTOCOL, RETRY_TRANSACTION, "others were too quick at the WAL's locks") \
	/* Resources. */ \
	X(SQLITE_NOMEM, FATAL, "running it again wants the memory again") \
	X(SQLITE_IOERR_NOMEM, FATAL, "the same, inside the VFS: says nothing about the file") \
	X(SQLITE_FULL, FATAL, "the disk or the database is full") \
	X(SQLITE_IOERR_GETTEMPPATH, FATAL, "no folder for temporary files: nowhere") \
	X(SQLITE_PERM, FATAL, "the file's permissions") \
	X(SQLITE_CANTOPEN, FATAL, "folder, permission or descriptors: nobody can") \
	X(SQLITE_CANTOPEN_NOTEMPDIR, FATAL, "not used any more") \
	X(SQLITE_CANTOPEN_ISDIR, FATAL, "the path is a folder's") \
	X(SQLITE_CANTOPEN_FULLPATH, FATAL, "the path is none") \
	X(SQLITE_CANTOPEN_CONVPATH, FATAL, "the path is none") \
	X(SQLITE_CANTOPEN_SYMLINK, FATAL, "the path is a link, and links were excluded") \
	X(SQLITE_CANTOPEN_DIRTYWAL, DISCARD_CONNECTION, "a WAL it cannot read: a new one may") \
	X(SQLITE_NOLFS, FATAL, "the file is too large for this system") \
	/* What may be written. */ \
	X(SQLITE_READONLY, FATAL, "most often a write on a reader: the connection is well") \
	X(SQLITE_READONLY_DIRECTORY, FATAL, "the folder's permissions: nobody can") \
	X(SQLITE_READONLY_DBMOVED, DISCARD_CONNECTION, "the file under it is gone or another's") \
	X(SQLITE_READONLY_RECOVERY, DISCARD_CONNECTION, "the WAL's index was read-only then") \
	X(SQLITE_READONLY_CANTLOCK, DISCARD_CONNECTION, "the WAL's index was read-only then") \
	X(SQLITE_READONLY_CANTINIT, DISCARD_CONNECTION, "the WAL's index was read-only then") \
	X(SQLITE_READONLY_ROLLBACK, DISCARD_CONNECTION, "opened read-only before a hot journal") \
	/* The file, or what the connection knows of it, is not to be trusted. */ \
	X(SQLITE_INTERNAL, DISCARD_CONNECTION, "SQLite contradicts itself") \
	X(SQLITE_MISUSE, DISCARD_CONNECTION, "a wrong handle was used: anything may be wrong") \
	X(SQLITE_CORRUPT, DISCARD_CONNECTION, "file or page cache is damaged") \
	X(SQLITE_CORRUPT_VTAB, DISCARD_CONNECTION, "the virtual table or what it keeps in memory") \
	X(SQLITE_CORRUPT_SEQUENCE, DISCARD_CONNECTION, "the schema it has read is damaged") \
	X(SQLITE_CORRUPT_INDEX, DISCARD_CONNECTION, "file or page cache is damaged") \
	X(SQLITE_NOTADB, DISCARD_CONNECTION, "another file, or a key that is missing") \
	X(SQLITE_IOERR, DISCARD_CONNECTION, "its descriptors, locks and cache are in doubt") \
	X(SQLITE_IOERR_READ, DISCARD_CONNECTION, "in doubt, as all that follow") \
	X(SQLITE_IOERR_SHORT_READ, DISCARD_CONNECTION, "the file was cut short") \
	X(SQLITE_IOERR_WRITE, DISCARD_CONNECTION, "how much was written is not known") \
	X(SQLITE_IOERR_FSYNC, DISCARD_CONNECTION, "the kernel may have dropped the pages") \
	X(SQLITE_IOERR_DIR_FSYNC, DISCARD_CONNECTION, "is the journal in the folder?") \
	X(SQLITE_IOERR_TRUNCATE, DISCARD_CONNECTION, "the file's size is in doubt") \
	X(SQLITE_IOERR_FSTAT, DISCARD_CONNECTION, "the descriptor is in doubt") \
	X(SQLITE_IOERR_UNLOCK, DISCARD_CONNECTION, "what it has locked is not known") \
	X(SQLITE_IOERR_RDLOCK, DISCARD_CONNECTION, "what it has locked is not known") \
	X(SQLITE_IOERR_DELETE, DISCARD_CONNECTION, "is the journal still there?") \
	X(SQLITE_IOERR_BLOCKED, DISCARD_CONNECTION, "not used any more") \
	X(SQLITE_IOERR_ACCESS, DISCARD_CONNECTION, "whether there is a journal is not known") \
	X(SQLITE_IOERR_CHECKRESERVEDLOCK, DISCARD_CONNECTION, "what is locked is not known") \
	X(SQLITE_IOERR_LOCK, DISCARD_CONNECTION, "what it has locked is not known") \
	X(SQLITE_IOERR_CLOSE, DISCARD_CONNECTION, "the descriptor is in doubt") \
	X(SQLITE_IOERR_DIR_CLOSE, DISCARD_CONNECTION, "not used any more") \
	X(SQLITE_IOERR_SHMOPEN, DISCARD_CONNECTION, "the WAL's index is in doubt") \
	X(SQLITE_IOERR_SHMSIZE, DISCARD_CONNECTION, "the WAL's index is in doubt") \
	X(SQLITE_IOERR_SHMLOCK, DISCARD_CONNECTION, "the WAL's index is in doubt") \
	X(SQLITE_IOERR_SHMMAP, DISCARD_CONNECTION, "the WAL's index is in doubt") \
	X(SQLITE_IOERR_SEEK, DISCARD_CONNECTION, "the descriptor is in doubt") \
	X(SQLITE_IOERR_DELETE_NOENT, DISCARD_CONNECTION, "somebody took the journal away") \
	X(SQLITE_IOERR_MMAP, DISCARD_CONNECTION, "the mapping is in doubt") \
	X(SQLITE_IOERR_CONVPATH, DISCARD_CONNECTION, "Cygwin's; as all of I/O") \
	X(SQLITE_IOERR_VNODE, DISCARD_CONNECTION, "the file under it was moved") \
	X(SQLITE_IOERR_AUTH, DISCARD_CONNECTION, "an extension's VFS; as all of I/O") \
	X(SQLITE_IOERR_BEGIN_ATOMIC, DISCARD_CONNECTION, "the file system's atomic write") \
	X(SQLITE_IOERR_COMMIT_ATOMIC, DISCARD_CONNECTION, "the file system's atomic write") \
	X(SQLITE_IOERR_ROLLBACK_ATOMIC, DISCARD_CONNECTION, "the file system's atomic write") \
	X(SQLITE_IOERR_DATA, DISCARD_CONNECTION, "a page's checksum is wrong") \
	X(SQLITE_IOERR_CORRUPTFS, DISCARD_CONNECTION, "the file system is damaged") \
	/* Not seen outside SQLite. */ \
	X(SQLITE_NOTFOUND, FATAL, "a file control nobody knows") \
	X(SQLITE_EMPTY, FATAL, "not used") \
	X(SQLITE_FORMAT, FATAL, "not used")
/* clang-format on */

#endif
