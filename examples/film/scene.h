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
	{0.46f, 0.38f, 0.28f}, // sand
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
	{{6.5f, 0.4f, 2.6f}, {0, 6.4f, 0}, {0, 0, 0.9f}, {8.5f, 11.0f, 14.0f}, RIGHT},
};

// The lamps and, after them, their images in the floor, one in each lane.
static float image_corner[3][4], image_a[3][4], image_b[3][4], image_normal[3][4], image_power[4];
static vec image_glow[4]; // radiance * area / pi

static void lamps_arrange(void) {
	for (int i = 0; i < 2 * LAMPS; i++) {
		const lamp *l = &lamps[i % LAMPS];
		for (int k = 0; k < 3; k++) {
			float side = i >= LAMPS && k == 1 ? -1 : 1; // upside down
			image_corner[k][i] = side * axis(l->corner, k);
			image_a[k][i] = side * axis(l->a, k);
			image_b[k][i] = side * axis(l->b, k);
			image_normal[k][i] = side * axis(face_normal[l->face], k);
		}
		image_glow[i] = scale(l->glow, sqrtf(dot(l->a, l->a) * dot(l->b, l->b)) / PI);
		image_power[i] = luminance(image_glow[i]) * (i < LAMPS ? 1 : 0.7f);
	}
}

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

// glaze_paint is the colour under the glaze at p, the pot not turned: a band of
// lozenges about the belly between two lines, and a ring on the lid.
static inline vec glaze_paint(int part, vec p) {
	float r = sqrtf(p.x * p.x + p.z * p.z);
	if (part == PART_LID && r > 1.02f && r < 1.12f) return COBALT;
	if (part != PART_BODY || p.y < 0.5f || p.y > 1.9f) return GLAZE;
	if (p.y < 0.58f || p.y > 1.82f) return COBALT;
	if (p.y < 0.68f || p.y > 1.72f) return GLAZE;
	float around = atan2f(p.x, p.z) * (18 / (2 * PI)) + 32, up = (p.y - 1.2f) / 0.52f;
	float x = fabsf(around - floorf(around) - 0.5f) * 2, y = fabsf(up);
	float reach = x + y;
	return reach < 0.62f ? COBALT : reach < 0.74f ? GLAZE : reach < 0.9f ? COBALT : GLAZE;
}

#endif
