// Sample points: for each pixel and each pair of dimensions a (0,2)-sequence
// (Sobol), its digits scrambled and its order shuffled by a hash of frame,
// pixel and dimension. So the samples of a pixel are stratified against each
// other, pixels are independent, and nothing depends on the host.
#ifndef FILM_SAMPLER_H
#define FILM_SAMPLER_H

#include <stdint.h>

#include "vec.h"

#define MAX_SPP 1024
#define SHUFFLES 64

typedef struct {
	float u, v;
} pair;

typedef struct {
	uint32_t key;   // frame and pixel
	uint32_t index; // sample of the pixel
	uint32_t dim;   // pairs drawn so far
} sampler;

static uint32_t sobol_x[MAX_SPP], sobol_y[MAX_SPP];
static uint16_t shuffle[SHUFFLES][MAX_SPP];

// bits mixes all bits of x into all bits of the result (a bijection).
static inline uint32_t bits(uint32_t x) {
	x ^= x >> 16;
	x *= 0x7feb352du;
	x ^= x >> 15;
	x *= 0x846ca68bu;
	x ^= x >> 16;
	return x;
}

static inline float unit_float(uint32_t x) { return (float)(x >> 8) * (1.0f / 16777216.0f); }

// sampler_tables fills the tables for n samples a pixel, n <= MAX_SPP.
static void sampler_tables(int n) {
	for (int i = 0; i < n; i++) {
		uint32_t x = 0, y = 0, direction = 0x80000000u;
		for (uint32_t k = (uint32_t)i, b = 0x80000000u; k; k >>= 1, b >>= 1) {
			if (k & 1) {
				x ^= b;
				y ^= direction;
			}
			direction ^= direction >> 1;
		}
		sobol_x[i] = x;
		sobol_y[i] = y;
	}
	uint32_t chance = 1;
	for (int s = 0; s < SHUFFLES; s++) {
		for (int i = 0; i < n; i++) shuffle[s][i] = (uint16_t)i;
		for (int i = n - 1; i > 0; i--) {
			chance = bits(chance + 0x9e3779b9u);
			int j = (int)(chance % (uint32_t)(i + 1));
			uint16_t t = shuffle[s][i];
			shuffle[s][i] = shuffle[s][j];
			shuffle[s][j] = t;
		}
	}
}

static inline pair draw(sampler *s) {
	uint32_t h = bits(s->key + s->dim++ * 0x9e3779b9u);
	int i = shuffle[h % SHUFFLES][s->index];
	uint32_t g = h * 0x2c1b3c6du + 0x297a2d39u;
	g ^= g >> 15;
	return (pair){unit_float(sobol_x[i] ^ h), unit_float(sobol_y[i] ^ g)};
}

// disk maps the unit square to the unit disk, keeping strata compact
// (Shirley and Chiu, "A Low Distortion Map Between Disk and Square", 1997).
static inline pair disk(pair p) {
	float a = 2 * p.u - 1, b = 2 * p.v - 1, r, phi;
	if (a == 0 && b == 0) return (pair){0, 0};
	if (a * a > b * b) {
		r = a;
		phi = (PI / 4) * (b / a);
	} else {
		r = b;
		phi = (PI / 2) - (PI / 4) * (a / b);
	}
	// sine of at most 3/4 pi in size, by its series: six digits, no library.
	float c = PI / 2 - phi, q = phi * phi, w = c * c;
	float sine = phi * (1 - q / 6 * (1 - q / 20 * (1 - q / 42 * (1 - q / 72 * (1 - q / 110)))));
	float cosine = c * (1 - w / 6 * (1 - w / 20 * (1 - w / 42 * (1 - w / 72 * (1 - w / 110)))));
	return (pair){r * cosine, r * sine};
}

// cosine_about draws a direction about n with density cos/pi.
static inline vec cosine_about(vec n, pair p) {
	pair d = disk(p);
	vec t, b;
	frame_of(n, &t, &b);
	float up = sqrtf(fmax2(0, 1 - d.u * d.u - d.v * d.v));
	return add(add(scale(t, d.u), scale(b, d.v)), scale(n, up));
}

#endif
