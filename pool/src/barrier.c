/*
 * barrier.c - a full fence of which only the rare side pays.
 *
 * To know before reading: who gives a slot back changes its generation and then looks at its fate;
 * who quarantines sets the fate and then looks at the generation. One of the two must see the
 * other, so neither's load may go before its own store. Two full fences would do, and each release
 * would pay 7 of its 45 ns for what hardly ever happens. membarrier(2) has all threads of the
 * process execute one when the rare side asks for it: a release that stored before that fence is
 * seen by the load behind it, and one that stores after it loads after it, and sees the fate. All
 * that the release needs is that the compiler keeps the order. Where the kernel has no membarrier
 * (before 4.14, or a filter of system calls refuses it) both sides pay.
 *
 * Method: asymmetric fences, as in liburcu and in C++'s P1202.
 */
/* SPDX-License-Identifier: MIT */
#include "internal.h"

#include <linux/membarrier.h>
#include <sys/syscall.h>
#include <unistd.h>

bool barrier_is_remote;

void barrier_begin(void)
{
	barrier_is_remote =
		syscall(SYS_membarrier, MEMBARRIER_CMD_REGISTER_PRIVATE_EXPEDITED, 0, 0) == 0;
}

void barrier_for_all(void)
{
	if (barrier_is_remote)
		syscall(SYS_membarrier, MEMBARRIER_CMD_PRIVATE_EXPEDITED, 0, 0);
}
