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
#define BRIGHTEST 14.0f // an indirect sample is held to this radiance

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
	s->paint = glaze_paint(t, t->local);
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
	vec offer[2 * LAMPS], to[2 * LAMPS];
	float sum = 0, share[2 * LAMPS];
	pair q = draw(rng), pick = draw(rng);
	int count = mirror_too ? 2 * LAMPS : LAMPS;
	for (int i = 0; i < count; i++) {
		const lamp *l = &lamps[i % LAMPS];
		vec ln = face_normal[l->face], lp = add(l->corner, add(scale(l->a, q.u), scale(l->b, q.v)));
		share[i] = 0;
		if (i >= LAMPS) lp.y = -lp.y, ln.y = -ln.y;
		vec d = sub(lp, p);
		float here = dot(d, n), there = -dot(d, ln), d2 = dot(d, d);
		if (here <= 0 || there <= 0) continue;
		float area = sqrtf(dot(l->a, l->a) * dot(l->b, l->b));
		vec c = scale(l->glow, here * there * area / (PI * d2 * d2));
		if (i >= LAMPS) {
			float k = p.y / (p.y - lp.y);
			c = mul(c, floor_mirror(along(p, d, k), -d.y / sqrtf(d2)));
		}
		offer[i] = c;
		to[i] = d;
		sum += share[i] = luminance(c);
	}
	if (sum <= 0) return grey(0);
	float at = pick.u * sum;
	int i = -1;
	for (int k = 0; k < count; k++)
		if (share[k] > 0) {
			i = k;
			if (at < share[k]) break;
			at -= share[k];
		}
	vec d = to[i];
	if (i < LAMPS) {
		if (blocked(p, d, 0.999f)) return grey(0);
	} else {
		float k = p.y / -d.y;
		if (blocked(p, d, k)) return grey(0);
		vec up = v3(d.x, -d.y, d.z);
		if (blocked(along(v3(p.x, 0, p.z), v3(d.x, 0, d.z), k), up, (1 - k) * 0.999f)) return grey(0);
	}
	return scale(offer[i], sum / share[i]);
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
			float live = fmin2(0.95f, fmax2(carry.x, fmax2(carry.y, carry.z)));
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
			vec gloss = held(radiance(s.p, bounce(d, &s), 1, 1, rng), BRIGHTEST);
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
