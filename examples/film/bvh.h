// A bounding volume hierarchy four wide: a node holds four boxes and a leaf
// four triangles, each tested at once with 128-bit vectors.
#ifndef FILM_BVH_H
#define FILM_BVH_H

#include <wasm_simd128.h>

#include "teapot.h"

#define BINS 12
#define FAR 1e30f

typedef struct {
	float box[6][4]; // least x, y, z, then greatest; four children
	int32_t child[4]; // a node, or ~leaf; an empty slot has an empty box
} node;

typedef struct {
	float corner[3][4], edge1[3][4], edge2[3][4];
	int32_t id[4];
} leaf;

typedef struct {
	vec lo, hi;
} box;

typedef struct {
	float t, u, v;
	int id; // triangle
} hit;

static node nodes[MAX_TRIANGLES];
static leaf leaves[MAX_TRIANGLES];
static int node_count, leaf_count;
static int order[MAX_TRIANGLES];
static box bounds[MAX_TRIANGLES]; // of each triangle

static box box_empty(void) { return (box){grey(FAR), grey(-FAR)}; }
static box box_add(box b, vec p) {
	return (box){v3(fmin2(b.lo.x, p.x), fmin2(b.lo.y, p.y), fmin2(b.lo.z, p.z)),
		v3(fmax2(b.hi.x, p.x), fmax2(b.hi.y, p.y), fmax2(b.hi.z, p.z))};
}
static box box_join(box a, box b) {
	return (box){v3(fmin2(a.lo.x, b.lo.x), fmin2(a.lo.y, b.lo.y), fmin2(a.lo.z, b.lo.z)),
		v3(fmax2(a.hi.x, b.hi.x), fmax2(a.hi.y, b.hi.y), fmax2(a.hi.z, b.hi.z))};
}
static float box_area(box b) {
	vec d = sub(b.hi, b.lo);
	return d.x < 0 ? 0 : d.x * d.y + d.y * d.z + d.z * d.x;
}
static vec middle(int id) { return scale(add(bounds[id].lo, bounds[id].hi), 0.5f); }
static box range_box(int from, int to) {
	box b = box_empty();
	for (int i = from; i < to; i++) b = box_join(b, bounds[order[i]]);
	return b;
}

static int bin_of(vec m, int a, box c) {
	float lo = axis(c.lo, a), width = axis(c.hi, a) - lo;
	int b = (int)((axis(m, a) - lo) / width * BINS);
	return b < 0 ? 0 : b >= BINS ? BINS - 1 : b;
}

// split reorders [from, to) by the surface area heuristic and returns the cut.
// Deep down it halves instead, which bounds the depth and so the stacks below.
static int split(int from, int to, int depth) {
	if (depth > 10) return (from + to) / 2;
	box c = box_empty();
	for (int i = from; i < to; i++) c = box_add(c, middle(order[i]));
	float best = FAR;
	int best_axis = -1, best_bin = 0;
	for (int a = 0; a < 3; a++) {
		if (axis(c.hi, a) - axis(c.lo, a) < 1e-7f) continue;
		box b[BINS];
		int n[BINS] = {0}, seen = 0;
		float left[BINS];
		for (int k = 0; k < BINS; k++) b[k] = box_empty();
		for (int i = from; i < to; i++) {
			int k = bin_of(middle(order[i]), a, c);
			n[k]++;
			b[k] = box_join(b[k], bounds[order[i]]);
		}
		box sum = box_empty();
		for (int k = 0; k < BINS - 1; k++) {
			seen += n[k];
			sum = box_join(sum, b[k]);
			left[k] = seen * box_area(sum);
		}
		sum = box_empty();
		seen = 0;
		for (int k = BINS - 1; k > 0; k--) {
			seen += n[k];
			sum = box_join(sum, b[k]);
			float cost = left[k - 1] + seen * box_area(sum);
			if (cost < best) best = cost, best_axis = a, best_bin = k;
		}
	}
	int cut = from;
	if (best_axis >= 0)
		for (int i = from; i < to; i++)
			if (bin_of(middle(order[i]), best_axis, c) < best_bin) {
				int t = order[cut];
				order[cut++] = order[i];
				order[i] = t;
			}
	return cut == from || cut == to ? (from + to) / 2 : cut;
}

static int32_t build_leaf(int from, int to) {
	leaf *l = &leaves[leaf_count];
	for (int k = 0; k < 4; k++) {
		const triangle *t = &triangles[order[from + k < to ? from + k : from]];
		vec e1 = sub(t->p[1], t->p[0]), e2 = sub(t->p[2], t->p[0]);
		for (int a = 0; a < 3; a++) {
			l->corner[a][k] = axis(t->p[0], a);
			l->edge1[a][k] = axis(e1, a);
			l->edge2[a][k] = axis(e2, a);
		}
		l->id[k] = (int32_t)(t - triangles);
	}
	return ~leaf_count++;
}

static int32_t build(int from, int to, int depth) {
	int at[5] = {from, to}, n = 1, mine = node_count++;
	while (n < 4) { // open the largest child that is not a leaf yet
		int pick = -1;
		float most = -1;
		for (int k = 0; k < n; k++)
			if (at[k + 1] - at[k] > 4) {
				float a = box_area(range_box(at[k], at[k + 1]));
				if (a > most) most = a, pick = k;
			}
		if (pick < 0) break;
		int cut = split(at[pick], at[pick + 1], depth);
		for (int k = n; k > pick; k--) at[k + 1] = at[k];
		at[pick + 1] = cut;
		n++;
	}
	for (int k = 0; k < 4; k++) {
		box b = k < n ? range_box(at[k], at[k + 1]) : box_empty();
		for (int a = 0; a < 3; a++) {
			nodes[mine].box[a][k] = axis(b.lo, a);
			nodes[mine].box[a + 3][k] = axis(b.hi, a);
		}
		int32_t c = 0;
		if (k < n) c = at[k + 1] - at[k] > 4 ? build(at[k], at[k + 1], depth + 1) : build_leaf(at[k], at[k + 1]);
		nodes[mine].child[k] = c;
	}
	return mine;
}

static void bvh_build(void) {
	node_count = leaf_count = 0;
	for (int i = 0; i < triangle_count; i++) {
		order[i] = i;
		bounds[i] = box_empty();
		for (int k = 0; k < 3; k++) bounds[i] = box_add(bounds[i], triangles[i].p[k]);
	}
	build(0, triangle_count, 0);
}

// leaf_hit tests four triangles (Moller and Trumbore, 1997) and returns a mask
// of those met before limit; the edges are a hair wide so that none leaks.
static inline uint32_t leaf_hit(const leaf *l, vec o, vec d, float limit, v128_t *t, v128_t *u, v128_t *v) {
#define LOAD(x) wasm_v128_load(x)
#define ALL(x) wasm_f32x4_splat(x)
#define ADD wasm_f32x4_add
#define SUB wasm_f32x4_sub
#define MUL wasm_f32x4_mul
	v128_t dx = ALL(d.x), dy = ALL(d.y), dz = ALL(d.z);
	v128_t ax = LOAD(l->edge1[0]), ay = LOAD(l->edge1[1]), az = LOAD(l->edge1[2]);
	v128_t bx = LOAD(l->edge2[0]), by = LOAD(l->edge2[1]), bz = LOAD(l->edge2[2]);
	v128_t px = SUB(MUL(dy, bz), MUL(dz, by)), py = SUB(MUL(dz, bx), MUL(dx, bz)), pz = SUB(MUL(dx, by), MUL(dy, bx));
	v128_t inverse = wasm_f32x4_div(ALL(1), ADD(ADD(MUL(ax, px), MUL(ay, py)), MUL(az, pz)));
	v128_t sx = SUB(ALL(o.x), LOAD(l->corner[0])), sy = SUB(ALL(o.y), LOAD(l->corner[1])), sz = SUB(ALL(o.z), LOAD(l->corner[2]));
	v128_t uu = MUL(ADD(ADD(MUL(sx, px), MUL(sy, py)), MUL(sz, pz)), inverse);
	v128_t qx = SUB(MUL(sy, az), MUL(sz, ay)), qy = SUB(MUL(sz, ax), MUL(sx, az)), qz = SUB(MUL(sx, ay), MUL(sy, ax));
	v128_t vv = MUL(ADD(ADD(MUL(dx, qx), MUL(dy, qy)), MUL(dz, qz)), inverse);
	v128_t tt = MUL(ADD(ADD(MUL(bx, qx), MUL(by, qy)), MUL(bz, qz)), inverse);
	v128_t hair = ALL(-2e-5f);
	v128_t in = wasm_v128_and(wasm_f32x4_ge(uu, hair), wasm_f32x4_ge(vv, hair));
	in = wasm_v128_and(in, wasm_f32x4_le(ADD(uu, vv), ALL(1 + 2e-5f)));
	in = wasm_v128_and(in, wasm_v128_and(wasm_f32x4_gt(tt, ALL(1e-4f)), wasm_f32x4_lt(tt, ALL(limit))));
	*t = tt, *u = uu, *v = vv;
	return (uint32_t)wasm_i32x4_bitmask(in);
}

typedef struct {
	v128_t ox, oy, oz, ix, iy, iz;
	int nx, ny, nz; // rows of a node's box that the ray enters by
} slabs;

static inline float inverse_of(float d) { return fabsf(d) < 1e-12f ? (d < 0 ? -1e12f : 1e12f) : 1 / d; }

static inline slabs slabs_of(vec o, vec d) {
	return (slabs){ALL(o.x), ALL(o.y), ALL(o.z), ALL(inverse_of(d.x)), ALL(inverse_of(d.y)), ALL(inverse_of(d.z)),
		d.x < 0 ? 3 : 0, d.y < 0 ? 4 : 1, d.z < 0 ? 5 : 2};
}

static inline uint32_t node_hit(const node *n, const slabs *s, float limit, v128_t *near) {
	v128_t x0 = MUL(SUB(LOAD(n->box[s->nx]), s->ox), s->ix), x1 = MUL(SUB(LOAD(n->box[3 - s->nx]), s->ox), s->ix);
	v128_t y0 = MUL(SUB(LOAD(n->box[s->ny]), s->oy), s->iy), y1 = MUL(SUB(LOAD(n->box[5 - s->ny]), s->oy), s->iy);
	v128_t z0 = MUL(SUB(LOAD(n->box[s->nz]), s->oz), s->iz), z1 = MUL(SUB(LOAD(n->box[7 - s->nz]), s->oz), s->iz);
	v128_t in = wasm_f32x4_pmax(wasm_f32x4_pmax(x0, y0), wasm_f32x4_pmax(z0, ALL(0)));
	v128_t out = wasm_f32x4_pmin(wasm_f32x4_pmin(x1, y1), wasm_f32x4_pmin(z1, ALL(limit)));
	*near = in;
	return (uint32_t)wasm_i32x4_bitmask(wasm_f32x4_le(in, out));
}

typedef struct {
	int32_t child;
	float t;
} visit;

// nearest finds the first triangle before h->t; h is left as it was if none.
static int nearest(vec o, vec d, hit *h) {
	slabs s = slabs_of(o, d);
	visit stack[96];
	int depth = 0, found = 0;
	int32_t at = 0;
	for (;;) {
		if (at >= 0) {
			const node *n = &nodes[at];
			v128_t near;
			uint32_t mask = node_hit(n, &s, h->t, &near);
			float t[4];
			wasm_v128_store(t, near);
			int base = depth;
			while (mask) {
				int k = __builtin_ctz(mask), j = depth++;
				mask &= mask - 1;
				for (; j > base && stack[j - 1].t < t[k]; j--) stack[j] = stack[j - 1];
				stack[j] = (visit){n->child[k], t[k]};
			}
		} else {
			const leaf *l = &leaves[~at];
			v128_t tt, uu, vv;
			uint32_t mask = leaf_hit(l, o, d, h->t, &tt, &uu, &vv);
			if (mask) {
				float t[4], u[4], v[4];
				wasm_v128_store(t, tt), wasm_v128_store(u, uu), wasm_v128_store(v, vv);
				for (; mask; mask &= mask - 1) {
					int k = __builtin_ctz(mask);
					if (t[k] < h->t) *h = (hit){t[k], u[k], v[k], l->id[k]}, found = 1;
				}
			}
		}
		do {
			if (!depth) return found;
			depth--;
		} while (stack[depth].t >= h->t);
		at = stack[depth].child;
	}
}

// blocked says whether any triangle stands within limit along the ray.
static int blocked(vec o, vec d, float limit) {
	slabs s = slabs_of(o, d);
	int32_t stack[96];
	int depth = 0;
	int32_t at = 0;
	for (;;) {
		v128_t t, u, v;
		if (at >= 0) {
			uint32_t mask = node_hit(&nodes[at], &s, limit, &t);
			for (; mask; mask &= mask - 1) stack[depth++] = nodes[at].child[__builtin_ctz(mask)];
		} else if (leaf_hit(&leaves[~at], o, d, limit, &t, &u, &v)) {
			return 1;
		}
		if (!depth) return 0;
		at = stack[--depth];
	}
}

#undef LOAD
#undef ALL
#undef ADD
#undef SUB
#undef MUL

#endif
