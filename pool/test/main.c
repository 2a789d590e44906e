/* The test program of pool/. */
/* SPDX-License-Identifier: MIT */
#include <poolproof/harness/test.h>

TEST_MAIN()
