// Vectors of three floats: points, directions and colours (linear Rec. 709).
#ifndef FILM_VEC_H
#define FILM_VEC_H

#include <math.h>

#define PI 3.14159265358979f

typedef struct {
	float x, y, z;
} vec;

static inline vec v3(float x, float y, float z) { return (vec){x, y, z}; }
static inline vec grey(float s) { return (vec){s, s, s}; }
static inline vec add(vec a, vec b) { return v3(a.x + b.x, a.y + b.y, a.z + b.z); }
static inline vec sub(vec a, vec b) { return v3(a.x - b.x, a.y - b.y, a.z - b.z); }
static inline vec mul(vec a, vec b) { return v3(a.x * b.x, a.y * b.y, a.z * b.z); }
static inline vec scale(vec a, float s) { return v3(a.x * s, a.y * s, a.z * s); }
// along returns a + s*b.
static inline vec along(vec a, vec b, float s) { return v3(a.x + b.x * s, a.y + b.y * s, a.z + b.z * s); }
static inline vec mix(vec a, vec b, float t) { return along(scale(a, 1 - t), b, t); }
static inline float dot(vec a, vec b) { return a.x * b.x + a.y * b.y + a.z * b.z; }
static inline vec cross(vec a, vec b) {
	return v3(a.y * b.z - a.z * b.y, a.z * b.x - a.x * b.z, a.x * b.y - a.y * b.x);
}
static inline vec unit(vec a) { return scale(a, 1 / sqrtf(dot(a, a))); }
static inline vec mirrored(vec d, vec n) { return along(d, n, -2 * dot(d, n)); }
static inline float luminance(vec c) { return 0.2126f * c.x + 0.7152f * c.y + 0.0722f * c.z; }
static inline float fmin2(float a, float b) { return b < a ? b : a; }
static inline float fmax2(float a, float b) { return a < b ? b : a; }
static inline float clampf(float x, float lo, float hi) { return fmin2(fmax2(x, lo), hi); }
static inline float axis(vec a, int i) { return i == 0 ? a.x : i == 1 ? a.y : a.z; }
static inline float square(float x) { return x * x; }
static inline float smooth(float a, float b, float x) {
	float t = clampf((x - a) / (b - a), 0, 1);
	return t * t * (3 - 2 * t);
}

// frame_of gives two unit vectors that stand upright on n and each other
// (Duff et al., "Building an Orthonormal Basis, Revisited", JCGT 6(1), 2017).
static inline void frame_of(vec n, vec *t, vec *b) {
	float s = n.z < 0 ? -1.0f : 1.0f, a = -1 / (s + n.z), c = n.x * n.y * a;
	*t = v3(1 + s * n.x * n.x * a, s * c, -s * n.x);
	*b = v3(c, s + n.y * n.y * a, -n.y);
}

#endif
