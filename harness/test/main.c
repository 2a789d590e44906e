/* The test program of harness/. */
/* SPDX-License-Identifier: MIT */
#include <poolproof/harness/test.h>

TEST_MAIN()
