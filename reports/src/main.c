/* poolproof - the one command. Everything but finding itself is in command.c. */
/* SPDX-License-Identifier: MIT */
#include <limits.h>
#include <string.h>
#include <unistd.h>

#include "command.h"

int main(int argc, char **argv)
{
	char path[PATH_MAX] = "./poolproof";
	ssize_t size = readlink("/proc/self/exe", path, sizeof path - 1);

	if (size > 0)
		path[size] = '\0';
	*strrchr(path, '/') = '\0';
	return report_command(argc, argv, path);
}
