// The grain that few samples leave is smoothed along surfaces and never across
// edges: an a-trous wavelet filter whose reach is set by normal, distance and
// by how far the samples of a pixel disagreed (Dammertz et al., "Edge-Avoiding
// A-Trous Wavelet Transform", HPG 2010; weights after Schied et al., HPG 2017).
#ifndef FILM_DENOISE_H
#define FILM_DENOISE_H

#include <stdlib.h>
#include <wasm_simd128.h>

#include "vec.h"

#define MARGIN 16 // pixels around a picture that no weight reaches; 2 << (rounds-1)
#define NOWHERE 1e9f // the distance that stands there

// A layer holds planes of floats, one after the other, margins included: what
// is to be smoothed, and what guides the smoothing.
enum { RED, GREEN, BLUE, VARIANCE, LUMINANCE, NORMAL_X, NORMAL_Y, NORMAL_Z, DISTANCE, TILT, PLANES };

typedef struct {
	float *plane[PLANES];
	int width, height, stride, size;
} layer;

// layer_new returns 0 where there is no memory.
static int layer_new(layer *l, int width, int height) {
	l->width = width, l->height = height;
	l->stride = (width + 3) / 4 * 4 + 2 * MARGIN;
	l->size = l->stride * (height + 2 * MARGIN);
	float *all = calloc((size_t)l->size * PLANES, sizeof *all);
	if (!all) return 0;
	for (int i = 0; i < PLANES; i++) l->plane[i] = all + i * l->size;
	for (int i = 0; i < l->size; i++) l->plane[DISTANCE][i] = NOWHERE;
	return 1;
}

static inline int layer_at(const layer *l, int x, int y) { return (y + MARGIN) * l->stride + x + MARGIN; }

static void layer_set(layer *l, int at, vec colour, float variance, vec normal, float distance) {
	l->plane[RED][at] = colour.x, l->plane[GREEN][at] = colour.y, l->plane[BLUE][at] = colour.z;
	l->plane[VARIANCE][at] = variance;
	l->plane[NORMAL_X][at] = normal.x, l->plane[NORMAL_Y][at] = normal.y, l->plane[NORMAL_Z][at] = normal.z;
	l->plane[DISTANCE][at] = distance;
}

static vec layer_get(const layer *l, int at) { return v3(l->plane[RED][at], l->plane[GREEN][at], l->plane[BLUE][at]); }

// lay_tilt notes how much the distance changes from a pixel to the next, on
// its flatter side: that much is no edge.
static void lay_tilt(layer *l) {
	for (int y = 0; y < l->height; y++)
		for (int x = 0; x < l->width; x++) {
			int at = layer_at(l, x, y);
			const float *d = l->plane[DISTANCE] + at;
			float across = fmin2(fabsf(d[-1] - d[0]), fabsf(d[1] - d[0]));
			float down = fmin2(fabsf(d[-l->stride] - d[0]), fabsf(d[l->stride] - d[0]));
			l->plane[TILT][at] = 1.5f * fmin2(fmax2(across, down), 10) + 3e-3f * d[0];
		}
}

#define AT(p, i) wasm_v128_load(l->plane[p] + (i))
#define ALL(x) wasm_f32x4_splat(x)
#define ADD wasm_f32x4_add
#define SUB wasm_f32x4_sub
#define MUL wasm_f32x4_mul

static inline v128_t squared_difference(v128_t a, v128_t b) {
	v128_t d = SUB(a, b);
	return MUL(d, d);
}

// smooth_round writes one round of the layer's four pixels at here to out.
static inline void smooth_four(const layer *l, int here, int step, float strict, float *const out[4]) {
	static const float kernel[5] = {1.0f / 16, 1.0f / 4, 3.0f / 8, 1.0f / 4, 1.0f / 16};
	const v128_t one = ALL(1), none = ALL(0);
	v128_t light = AT(LUMINANCE, here), nx = AT(NORMAL_X, here), ny = AT(NORMAL_Y, here), nz = AT(NORMAL_Z, here);
	v128_t distance = AT(DISTANCE, here), variance = none;
	for (int b = -1; b <= 1; b++) // the variance of a single pixel is itself grainy
		for (int a = -1; a <= 1; a++)
			variance = ADD(variance, MUL(ALL((a ? 0.25f : 0.5f) * (b ? 0.25f : 0.5f)), AT(VARIANCE, here + b * l->stride + a)));
	v128_t grain = wasm_f32x4_div(one, ADD(MUL(ALL(strict), wasm_f32x4_sqrt(variance)), ALL(1e-3f)));
	v128_t tilt = wasm_f32x4_div(one, ADD(MUL(AT(TILT, here), ALL((float)step)), ALL(1e-4f)));
	v128_t r = none, g = none, blue = none, v = none, weight = none;
	for (int b = 0; b < 5; b++)
		for (int a = 0; a < 5; a++) {
			int there = here + ((b - 2) * l->stride + a - 2) * step;
			v128_t turned = squared_difference(AT(NORMAL_X, there), nx);
			turned = ADD(turned, squared_difference(AT(NORMAL_Y, there), ny));
			turned = ADD(turned, squared_difference(AT(NORMAL_Z, there), nz));
			v128_t apart = MUL(wasm_f32x4_abs(SUB(AT(LUMINANCE, there), light)), grain);
			apart = ADD(apart, MUL(wasm_f32x4_abs(SUB(AT(DISTANCE, there), distance)), tilt));
			apart = ADD(apart, MUL(turned, ALL(24)));
			// (1 - x/8)^8 for exp(-x), cut off well before denormal numbers.
			v128_t w = wasm_f32x4_pmax(SUB(one, MUL(apart, ALL(0.125f))), none);
			w = wasm_v128_and(w, wasm_f32x4_gt(w, ALL(0.05f)));
			w = MUL(w, w), w = MUL(w, w), w = MUL(MUL(w, w), ALL(kernel[a] * kernel[b]));
			weight = ADD(weight, w);
			r = ADD(r, MUL(w, AT(RED, there)));
			g = ADD(g, MUL(w, AT(GREEN, there)));
			blue = ADD(blue, MUL(w, AT(BLUE, there)));
			v = ADD(v, MUL(MUL(w, w), AT(VARIANCE, there)));
		}
	v128_t k = wasm_f32x4_div(one, wasm_f32x4_pmax(weight, ALL(1e-3f)));
	wasm_v128_store(out[RED] + here, MUL(r, k));
	wasm_v128_store(out[GREEN] + here, MUL(g, k));
	wasm_v128_store(out[BLUE] + here, MUL(blue, k));
	wasm_v128_store(out[VARIANCE] + here, MUL(v, MUL(k, k)));
}

#undef AT
#undef ALL
#undef ADD
#undef SUB
#undef MUL

// denoise smooths the layer's colour in rounds, each of twice the reach and at
// most four. strict scales what difference still counts as grain. It returns 0
// where there is no memory.
static int denoise(layer *l, int rounds, float strict) {
	// Never freed: planes and spare ones change places, and the frame is the
	// last thing that this module does.
	float *spare = calloc((size_t)l->size * 4, sizeof *spare), *out[4];
	if (!spare) return 0;
	for (int i = 0; i < 4; i++) out[i] = spare + i * l->size;
	lay_tilt(l);
	for (int round = 0; round < rounds; round++) {
		for (int i = 0; i < l->size; i++)
			l->plane[LUMINANCE][i] = luminance(v3(l->plane[RED][i], l->plane[GREEN][i], l->plane[BLUE][i]));
		for (int y = 0; y < l->height; y++)
			for (int x = 0; x < l->width; x += 4) smooth_four(l, layer_at(l, x, y), 1 << round, strict, out);
		for (int i = RED; i <= VARIANCE; i++) {
			float *t = l->plane[i];
			l->plane[i] = out[i];
			out[i] = t;
		}
	}
	return 1;
}

#endif
