// The room: a box of painted walls with a mirror for a floor, two area lights
// set into its faces, and what the teapot is made of.
#ifndef FILM_SCENE_H
#define FILM_SCENE_H

#include "bvh.h"

static const vec ROOM_LO = {-6.5f, 0, -5.5f}, ROOM_HI = {6.5f, 7.5f, 14};

enum { LEFT, RIGHT, FLOOR, CEILING, BACK, FRONT, FACES };

static const vec face_normal[FACES] = {{1, 0, 0}, {-1, 0, 0}, {0, 1, 0}, {0, -1, 0}, {0, 0, 1}, {0, 0, -1}};
static const vec face_paint[FACES] = {
	{0.60f, 0.17f, 0.075f}, // terracotta
	{0.045f, 0.24f, 0.30f}, // petrol
	{0, 0, 0},
	{0.78f, 0.76f, 0.72f},
	{0.70f, 0.63f, 0.52f}, // sand
	{0.30f, 0.29f, 0.28f},
};

typedef struct {
	vec corner, a, b; // the rectangle corner + s*a + t*b
	vec glow;         // radiance
	int face;
} lamp;

#define LAMPS 2
static const lamp lamps[LAMPS] = {
	{{-2.2f, 7.5f, -0.8f}, {4.4f, 0, 0}, {0, 0, 3.2f}, {11.5f, 10.2f, 8.4f}, CEILING},
	{{6.5f, 1.6f, 2.0f}, {0, 4.6f, 0}, {0, 0, 1.6f}, {7.0f, 9.0f, 11.5f}, RIGHT},
};

// room_exit gives the distance at which a ray from inside meets the room.
static inline float room_exit(vec o, vec d, int *face) {
	float x = ((d.x < 0 ? ROOM_LO.x : ROOM_HI.x) - o.x) * inverse_of(d.x);
	float y = ((d.y < 0 ? ROOM_LO.y : ROOM_HI.y) - o.y) * inverse_of(d.y);
	float z = ((d.z < 0 ? ROOM_LO.z : ROOM_HI.z) - o.z) * inverse_of(d.z);
	if (x < y && x < z) return *face = d.x < 0 ? LEFT : RIGHT, fmax2(x, 0);
	if (y < z) return *face = d.y < 0 ? FLOOR : CEILING, fmax2(y, 0);
	return *face = d.z < 0 ? BACK : FRONT, fmax2(z, 0);
}

// lamp_at gives the lamp that lights point p of a face, or -1.
static inline int lamp_at(vec p, int face) {
	for (int i = 0; i < LAMPS; i++) {
		if (lamps[i].face != face) continue;
		vec q = sub(p, lamps[i].corner);
		float s = dot(q, lamps[i].a) / dot(lamps[i].a, lamps[i].a), t = dot(q, lamps[i].b) / dot(lamps[i].b, lamps[i].b);
		if (s >= 0 && s <= 1 && t >= 0 && t <= 1) return i;
	}
	return -1;
}

static inline float schlick(float f0, float cosine) {
	float m = clampf(1 - cosine, 0, 1), q = m * m;
	return f0 + (1 - f0) * q * q * m;
}

// The floor is laid with square mirrors, smoked and clear in turn.
static inline int tile_at(vec p) {
	float x = (p.x + p.z) * 0.38f + 64, z = (p.x - p.z) * 0.38f + 64;
	return ((int)x + (int)z) & 1;
}

static inline vec floor_mirror(vec p, float cosine) {
	float f = schlick(0, cosine);
	return tile_at(p) ? mix(v3(0.74f, 0.75f, 0.76f), grey(1), f) : mix(v3(0.46f, 0.48f, 0.50f), grey(1), f);
}

static inline float floor_blur(vec p) { return tile_at(p) ? 0.010f : 0.022f; }
static const vec FLOOR_DUST = {0.035f, 0.035f, 0.037f}; // albedo of what lies on the mirror

static const vec GOLD = {0.98f, 0.70f, 0.32f}, GLAZE = {0.86f, 0.83f, 0.77f}, COBALT = {0.02f, 0.055f, 0.26f};
#define COAT 0.045f // reflectance of the glaze, straight on

static inline int is_gold(int part) { return part == PART_RIM || part == PART_KNOB; }

// glaze_paint is the colour under the glaze.
static inline vec glaze_paint(const triangle *t, vec local) {
	(void)t;
	(void)local;
	return GLAZE;
}

#endif
