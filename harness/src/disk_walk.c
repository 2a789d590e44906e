/*
 * disk_walk.c - every place of a recording, with every damage: the named ones first, at each place,
 * and then one that is drawn at each place, again and again. And what belongs together for it.
 */
/* SPDX-License-Identifier: MIT */
#include "disk_internal.h"
#include "internal.h"

#include <string.h>

enum { NAMED_HERE = 6 }; /* So many of the named damages a place has. */

static void pass_begin(struct harness_walk *walk)
{
	const struct harness_disk *disk = walk->cut->disk;
	size_t places = disk->length - disk->first + 1;

	walk->step = 1;
	if (walk->pass == 0 && walk->states / NAMED_HERE < places)
		walk->step = places * NAMED_HERE / walk->states + 1;
	walk->place = disk->first + walk->shift % walk->step;
	walk->from = walk->pass == 0 ? 0 : HARNESS_DAMAGE_RANDOM + walk->pass - 1;
	walk->damage = walk->from;
	walk->found = 0;
	harness_cut_move(walk->cut, 0);
	harness_cut_move(walk->cut, walk->place);
}

void harness_walk_begin(struct harness_walk *walk, struct harness_cut *cut, unsigned states,
                        unsigned passes, unsigned shift)
{
	*walk = (struct harness_walk){
		.cut = cut, .states = states, .passes = passes, .shift = shift
	};
	if (states > 0 && passes > 0)
		pass_begin(walk);
}

/* To the next one that is somewhere; false: the pass is over. */
static bool pass_next(struct harness_walk *walk)
{
	unsigned to = walk->pass == 0 ? HARNESS_DAMAGE_RANDOM : walk->from + 1;

	for (;;) {
		for (; walk->next < to - walk->from; walk->next++)
			if (harness_cut_has(walk->cut, walk->from + walk->next)) {
				walk->damage = walk->from + walk->next++;
				return true;
			}
		walk->next = 0;
		if (walk->cut->disk->length - walk->place < walk->step)
			return false;
		walk->place += walk->step;
		harness_cut_move(walk->cut, walk->place);
	}
}

bool harness_walk_next(struct harness_walk *walk)
{
	if (walk->states == 0 || walk->passes == 0)
		return false;
	while (!pass_next(walk)) {
		walk->pass++;
		if (walk->found == 0 || walk->pass == walk->passes)
			return false;
		pass_begin(walk);
	}
	walk->found++;
	walk->states--;
	return true;
}

struct harness_disk *harness_disk_new(void)
{
	struct harness_disk *disk = pages_take(sizeof *disk);

	if (disk != NULL)
		pthread_mutex_init(&disk->lock, NULL);
	return disk;
}

void harness_disk_free(struct harness_disk *disk)
{
	if (disk != NULL)
		pthread_mutex_destroy(&disk->lock);
	pages_give(disk, sizeof *disk);
}

bool harness_power_init(struct harness_power *power)
{
	power->disk = harness_disk_new();
	power->cut = power->disk != NULL ? harness_cut_new(power->disk) : NULL;
	power->image = harness_image_new();
	if (power->cut != NULL && power->image != NULL)
		return true;
	harness_power_done(power);
	return false;
}

void harness_power_done(struct harness_power *power)
{
	harness_cut_free(power->cut);
	harness_image_free(power->image);
	harness_disk_free(power->disk);
	*power = (struct harness_power){ 0 };
}
