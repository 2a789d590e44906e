/* disk_image.c - a few files in memory. */
/* SPDX-License-Identifier: MIT */
#include "disk_internal.h"
#include "internal.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

struct harness_image *harness_image_new(void)
{
	struct harness_image *image = pages_take(sizeof *image);

	for (unsigned i = 0; image != NULL && i < DISK_NAMES; i++)
		image->files[i].bytes = image->memory[i];
	return image;
}

void harness_image_free(struct harness_image *image)
{
	pages_give(image, sizeof *image);
}

struct image_file *image_file(struct harness_image *image, const char *name)
{
	unsigned i = 0;

	while (i < image->file_count && strcmp(image->files[i].name, name) != 0)
		i++;
	if (i == image->file_count) {
		if (i == DISK_NAMES || strlen(name) >= DISK_NAME)
			return NULL;
		strcpy(image->files[i].name, name);
		image->files[i].exists = false;
		image->files[i].size = 0;
		image->file_count++;
	}
	return &image->files[i];
}

bool image_resize(struct image_file *file, uint64_t size)
{
	if (size > DISK_FILE_MAX)
		return false;
	if (size > file->size)
		memset(file->bytes + file->size, 0, size - file->size);
	file->size = size;
	return true;
}

bool image_write(struct image_file *file, const void *data, size_t size, uint64_t at)
{
	if (at > file->size && !image_resize(file, at))
		return false;
	if (at + size > DISK_FILE_MAX)
		return false;
	memcpy(file->bytes + at, data, size);
	if (at + size > file->size)
		file->size = at + size;
	return true;
}

static bool file_save(const struct image_file *file, int folder)
{
	int fd = openat(folder, file->name, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
	bool well = fd >= 0;

	for (size_t done = 0; well && done < file->size;) {
		ssize_t size = write(fd, file->bytes + done, file->size - done);

		well = size > 0 || (size < 0 && errno == EINTR);
		done += size > 0 ? (size_t)size : 0;
	}
	if (fd >= 0 && close(fd) != 0)
		well = false;
	return well;
}

bool harness_image_save(const struct harness_image *image, const char *path)
{
	int folder = -1;
	bool well;

	if (mkdir(path, 0755) == 0 || errno == EEXIST)
		folder = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	well = folder >= 0;
	for (unsigned i = 0; well && i < image->file_count; i++)
		if (image->files[i].exists)
			well = file_save(&image->files[i], folder);
	if (folder >= 0)
		close(folder);
	return well;
}

void harness_image_record(struct harness_image *image, struct harness_disk *disk)
{
	image->disk = disk;
	if (disk == NULL)
		return;
	disk_restart(disk);
	for (unsigned i = 0; i < image->file_count; i++) {
		const struct image_file *file = &image->files[i];
		unsigned name = disk_name(disk, file->name);

		if (!file->exists)
			continue;
		disk_opened(disk, name, true);
		disk_written(disk, name, file->bytes, (uint32_t)file->size, 0);
		disk_synced(disk, name, disk_syncing(disk));
	}
	disk_begun(disk);
}
