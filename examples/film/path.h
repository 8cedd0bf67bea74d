// Light transport: paths from the eye, with the lamps sampled at every matt
// point both directly and by way of the mirror floor, so that no light has to
// be found by chance. Only what the glaze or the gold would focus on a matt
// surface is left out.
#ifndef FILM_PATH_H
#define FILM_PATH_H

#include "sampler.h"
#include "scene.h"

#define MAX_BOUNCES 12 // of any kind
#define MAX_MATT 4     // of them off matt surfaces
#define BRIGHTEST 5.0f // an indirect sample is held to this radiance

typedef struct {
	vec p, n;     // point and normal, turned to the side that is seen
	vec start;    // where matt rays start: p lifted to the smooth surface
	vec flat;     // normal of the triangle
	float t;
	int face;     // of the room, or -1
	int part;     // of the pot
	vec paint;
} spot;

static inline void see(vec o, vec d, spot *s) {
	hit h = {0};
	h.t = room_exit(o, d, &s->face);
	if (!nearest(o, d, &h)) {
		s->t = h.t;
		s->p = s->start = along(o, d, h.t);
		s->n = s->flat = face_normal[s->face];
		s->paint = face_paint[s->face];
		return;
	}
	const triangle *t = &triangles[h.id];
	float w = 1 - h.u - h.v;
	s->t = h.t;
	s->face = -1;
	s->part = t->part;
	s->p = along(o, d, h.t);
	s->n = unit(add(add(scale(t->n[0], w), scale(t->n[1], h.u)), scale(t->n[2], h.v)));
	s->flat = unit(cross(sub(t->p[1], t->p[0]), sub(t->p[2], t->p[0])));
	if (dot(s->flat, d) > 0) s->flat = scale(s->flat, -1);
	float side = dot(s->flat, s->n) < 0 ? -1 : 1;
	s->n = scale(s->n, side);
	// Hanika, "Hacking the Shadow Terminator", Ray Tracing Gems II, 2021.
	vec lift = {0, 0, 0};
	float weight[3] = {w, h.u, h.v};
	for (int k = 0; k < 3; k++) {
		float below = fmin2(0, side * dot(sub(s->p, t->p[k]), t->n[k]));
		lift = along(lift, t->n[k], -side * below * weight[k]);
	}
	s->start = along(add(s->p, lift), s->flat, 5e-4f);
	s->p = along(s->p, s->flat, 5e-4f);
	s->paint = glaze_paint(t->part, turned_back(s->p));
}

// bounce mirrors d at s, and never into the surface.
static inline vec bounce(vec d, const spot *s) {
	vec r = mirrored(d, s->n);
	float under = dot(r, s->flat);
	return under > 0.01f ? r : unit(along(r, s->flat, 0.01f - under));
}

static inline vec blurred(vec r, float blur, vec n, sampler *rng) {
	pair q = disk(draw(rng));
	vec a, b;
	frame_of(r, &a, &b);
	vec d = unit(add(r, add(scale(a, q.u * blur), scale(b, q.v * blur))));
	float up = dot(d, n);
	return up > 0.002f ? d : unit(along(d, n, 0.002f - up));
}

// lit estimates irradiance/pi at a matt point: every lamp and its image in the
// floor make an offer, one is drawn by brightness, and shadow is tested for it.
static vec lit(vec p, vec n, int mirror_too, sampler *rng) {
#define ROW(x) wasm_v128_load(x)
#define ALL(x) wasm_f32x4_splat(x)
#define ADD wasm_f32x4_add
#define SUB wasm_f32x4_sub
#define MUL wasm_f32x4_mul
	pair q = draw(rng);
	v128_t u = ALL(q.u), v = ALL(q.v), none = ALL(0);
	v128_t dx = SUB(ADD(ROW(image_corner[0]), ADD(MUL(ROW(image_a[0]), u), MUL(ROW(image_b[0]), v))), ALL(p.x));
	v128_t dy = SUB(ADD(ROW(image_corner[1]), ADD(MUL(ROW(image_a[1]), u), MUL(ROW(image_b[1]), v))), ALL(p.y));
	v128_t dz = SUB(ADD(ROW(image_corner[2]), ADD(MUL(ROW(image_a[2]), u), MUL(ROW(image_b[2]), v))), ALL(p.z));
	v128_t here = ADD(ADD(MUL(dx, ALL(n.x)), MUL(dy, ALL(n.y))), MUL(dz, ALL(n.z)));
	v128_t there = ADD(ADD(MUL(dx, ROW(image_normal[0])), MUL(dy, ROW(image_normal[1]))), MUL(dz, ROW(image_normal[2])));
	v128_t d2 = ADD(ADD(MUL(dx, dx), MUL(dy, dy)), MUL(dz, dz));
	v128_t form = MUL(wasm_f32x4_pmax(here, none), wasm_f32x4_pmax(wasm_f32x4_neg(there), none));
	form = wasm_f32x4_div(form, wasm_f32x4_pmax(MUL(d2, d2), ALL(1e-6f)));
	float f[4], x[4], y[4], z[4], share[4], sum = 0;
	wasm_v128_store(f, form), wasm_v128_store(share, MUL(form, ROW(image_power)));
	wasm_v128_store(x, dx), wasm_v128_store(y, dy), wasm_v128_store(z, dz);
#undef ROW
#undef ALL
#undef ADD
#undef SUB
#undef MUL
	int count = mirror_too ? 2 * LAMPS : LAMPS, i = -1;
	for (int k = 0; k < count; k++) sum += share[k];
	if (sum <= 0) return grey(0);
	float at = draw(rng).u * sum;
	for (int k = 0; k < count; k++)
		if (share[k] > 0) {
			i = k;
			if (at < share[k]) break;
			at -= share[k];
		}
	vec d = v3(x[i], y[i], z[i]), light = scale(image_glow[i], f[i] * sum / share[i]);
	if (i < LAMPS) return blocked(p, d, 0.999f) ? grey(0) : light;
	float k = p.y / -d.y; // where the way meets the floor
	vec q0 = along(v3(p.x, 0, p.z), v3(d.x, 0, d.z), k);
	if (blocked(p, d, k) || blocked(q0, v3(d.x, -d.y, d.z), (1 - k) * 0.999f)) return grey(0);
	return mul(light, floor_mirror(q0, -d.y / sqrtf(dot(d, d))));
}

static inline vec gold_at(float cosine) {
	float f = schlick(0, cosine);
	return mix(GOLD, grey(1), f);
}

// radiance follows one path. lamps_seen says whether a lamp that it meets
// counts: after a matt point it does not, for lit has counted it.
static vec radiance(vec o, vec d, int lamps_seen, int matt, sampler *rng) {
	vec sum = {0, 0, 0}, carry = {1, 1, 1};
	for (int k = 0; k < MAX_BOUNCES; k++) {
		spot s;
		see(o, d, &s);
		float cosine = -dot(d, s.n);
		if (s.face == FLOOR) {
			sum = add(sum, mul(mul(carry, FLOOR_DUST), lit(s.p, s.n, 0, rng)));
			carry = mul(carry, floor_mirror(s.p, cosine));
			o = s.p;
			d = blurred(mirrored(d, s.n), floor_blur(s.p), s.n, rng);
			continue;
		}
		int lamp = s.face < 0 ? -1 : lamp_at(s.p, s.face);
		if (lamp >= 0) {
			if (lamps_seen) sum = add(sum, mul(carry, lamps[lamp].glow));
			break;
		}
		if (s.face < 0) {
			if (is_gold(s.part)) {
				carry = mul(carry, gold_at(cosine));
				o = s.p;
				d = bounce(d, &s);
				continue;
			}
			float f = schlick(COAT, cosine);
			if (draw(rng).u < f) {
				o = s.p;
				d = bounce(d, &s);
				continue;
			}
		}
		carry = mul(carry, s.paint);
		sum = add(sum, mul(carry, lit(s.start, s.n, 1, rng)));
		if (++matt > MAX_MATT) break;
		if (matt > 1) { // Russian roulette, by what the path still carries
			float live = 0.8f * fmin2(1, fmax2(carry.x, fmax2(carry.y, carry.z)));
			if (draw(rng).u >= live) break;
			carry = scale(carry, 1 / live);
		}
		lamps_seen = 0;
		o = s.start;
		d = cosine_about(s.n, draw(rng));
	}
	return sum;
}

static inline vec held(vec c, float most) {
	float m = fmax2(c.x, fmax2(c.y, c.z));
	return m > most ? scale(c, most / m) : c;
}

// What one sample of a pixel saw. The picture is matt*albedo + shine + glow;
// the parts are kept apart so that each can be cleaned by what it depends on.
typedef struct {
	vec matt, albedo;  // at the first matt point, seen straight or in mirrors
	vec shine;         // gloss of the glaze, dust on the floor
	vec glow;          // lamps
	vec normal, first; // at the matt point, and at the first point of all
	float far, depth;  // way to each
} look;

static void look_along(vec o, vec d, sampler *rng, look *out) {
	vec carry = {1, 1, 1};
	*out = (look){0};
	for (int k = 0; k < 6; k++) {
		spot s;
		see(o, d, &s);
		float cosine = -dot(d, s.n);
		out->far += s.t;
		if (!k) out->first = s.n, out->depth = s.t;
		out->normal = s.n;
		if (s.face == FLOOR) {
			out->shine = add(out->shine, mul(mul(carry, FLOOR_DUST), lit(s.p, s.n, 0, rng)));
			carry = mul(carry, floor_mirror(s.p, cosine));
			o = s.p;
			d = blurred(mirrored(d, s.n), floor_blur(s.p), s.n, rng);
			continue;
		}
		int lamp = s.face < 0 ? -1 : lamp_at(s.p, s.face);
		if (lamp >= 0) {
			out->glow = held(mul(carry, lamps[lamp].glow), 3);
			return;
		}
		if (s.face < 0 && is_gold(s.part)) {
			carry = mul(carry, gold_at(cosine));
			o = s.p;
			d = bounce(d, &s);
			continue;
		}
		out->albedo = mul(carry, s.paint);
		if (s.face < 0) {
			float f = schlick(COAT, cosine);
			vec gloss = held(radiance(s.p, bounce(d, &s), 1, 2, rng), BRIGHTEST);
			out->shine = add(out->shine, scale(mul(carry, gloss), f));
			out->albedo = scale(out->albedo, 1 - f);
		}
		out->matt = lit(s.start, s.n, 1, rng);
		vec round = radiance(s.start, cosine_about(s.n, draw(rng)), 0, 1, rng);
		out->matt = add(out->matt, held(round, BRIGHTEST));
		return;
	}
}

#endif
