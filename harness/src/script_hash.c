/*
 * script_hash.c - hash_fnv1a, hash_murmur2 and permute, number for number as pgbench's.
 *
 * The permutation draws from a generator of its own (xoroshiro128** seeded by splitmix64, as in
 * PostgreSQL 15), because its result is a function of its arguments alone.
 */
/* SPDX-License-Identifier: MIT */
#include "script_internal.h"

struct generator {
	uint64_t a, b;
};

static uint64_t rotate(uint64_t x, unsigned bits)
{
	return x << bits | x >> (64 - bits);
}

static uint64_t splitmix(uint64_t *state)
{
	uint64_t x = *state += 0x9E3779B97F4A7C15u;

	x = (x ^ x >> 30) * 0xBF58476D1CE4E5B9u;
	x = (x ^ x >> 27) * 0x94D049BB133111EBu;
	return x ^ x >> 31;
}

static uint64_t draw(struct generator *g)
{
	uint64_t result = rotate(g->a * 5, 7) * 9, mix = g->a ^ g->b;

	g->a = rotate(g->a, 24) ^ mix ^ mix << 16;
	g->b = rotate(mix, 37);
	return result;
}

/* Uniform in 0..top, top > 0: as many high bits as top has, until they fit. */
static uint64_t draw_upto(struct generator *g, uint64_t top)
{
	int shift = __builtin_clzll(top);
	uint64_t x;

	do
		x = draw(g) >> shift;
	while (x > top);
	return x;
}

int64_t script_hash_fnv1a(int64_t value, uint64_t seed)
{
	uint64_t hash = 0xcbf29ce484222325u ^ seed, rest = (uint64_t)value;

	for (int i = 0; i < 8; i++, rest >>= 8)
		hash = (hash ^ (rest & 0xff)) * 0x100000001b3u;
	return (int64_t)hash;
}

/* MurmurHash64A (Appleby) of one 8-byte key. */
int64_t script_hash_murmur2(int64_t value, uint64_t seed)
{
	const uint64_t m = 0xc6a4a7935bd1e995u;
	uint64_t hash = seed ^ m * 8, k = (uint64_t)value * m;

	k = (k ^ k >> 47) * m;
	hash = (hash ^ k) * m;
	hash = (hash ^ hash >> 47) * m;
	return (int64_t)(hash ^ hash >> 47);
}

/* One bijection of 0..mask (a power of two minus 1): multiply by an odd number, exclusive or,
 * rotate by one. A value beyond mask stays. Draws the same numbers either way. */
static uint64_t scatter(struct generator *g, uint64_t x, uint64_t mask, int bits)
{
	uint64_t factor = (draw(g) & mask) | 1, flip = draw(g) & mask;

	if (x > mask)
		return x;
	x = (x * factor ^ flip) & mask;
	return (x << 1 & mask) | x >> (bits - 1);
}

int64_t script_permute(int64_t value, int64_t size, uint64_t seed)
{
	uint64_t n = (uint64_t)size, x;
	struct generator g;
	uint64_t mask;
	int bits;

	if (size < 2)
		return 0;
	g.a = splitmix(&seed);
	g.b = splitmix(&seed);
	bits = 63 - __builtin_clzll(n);
	mask = ((uint64_t)1 << bits) - 1;
	x = (uint64_t)value % n;

	/* The size is rarely a power of two: scatter its lower and its upper part, which
	 * overlap, then turn the whole. Six rounds, as in pgbench. */
	for (int round = 0; round < 6; round++) {
		x = scatter(&g, x, mask, bits);
		x = n - 1 - scatter(&g, n - 1 - x, mask, bits);
		x = (x + draw_upto(&g, n - 1)) % n;
	}
	return (int64_t)x;
}
