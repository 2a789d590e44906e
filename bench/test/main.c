/* SPDX-License-Identifier: MIT */
#include <poolproof/harness/test.h>

TEST_MAIN()
