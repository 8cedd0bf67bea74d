// The teapot: patch data from a file to triangles with smooth normals.
#ifndef FILM_TEAPOT_H
#define FILM_TEAPOT_H

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "vec.h"

#define MAX_PATCHES 64
#define MAX_POINTS 1024
#define CUTS 14 // cells along each side of a patch
#define MAX_TRIANGLES (MAX_PATCHES * CUTS * CUTS * 2)

typedef struct {
	vec p[3], n[3]; // corners and unit normals
	int part;
} triangle;

// Parts of the pot, by the order of the published patches.
enum { PART_RIM, PART_BODY, PART_HANDLE, PART_SPOUT, PART_KNOB, PART_LID, PART_BOTTOM };

static int patch[MAX_PATCHES][16], patches;
static vec point[MAX_POINTS];
static int points;
static triangle triangles[MAX_TRIANGLES];
static int triangle_count;

static void fail(const char *what, const char *detail) {
	fprintf(stderr, "film: %s: %s\n", what, detail);
	exit(1);
}

static int next_line(FILE *f, char *line, int size) {
	while (fgets(line, size, f))
		if (line[0] != '#' && line[0] != '\n' && line[0] != '\r') return 1;
	return 0;
}

static int read_count(FILE *f, const char *path, int most) {
	char line[256], *end;
	if (!next_line(f, line, sizeof line)) fail(path, "ends early");
	long n = strtol(line, &end, 10);
	if (end == line || n < 1 || n > most) fail(path, "a count is out of range");
	return (int)n;
}

static void teapot_read(const char *path) {
	FILE *f = fopen(path, "r");
	char line[256], *at, *end;
	if (!f) fail(path, "cannot be opened; is it an input of the job?");
	patches = read_count(f, path, MAX_PATCHES);
	for (int i = 0; i < patches; i++) {
		if (!next_line(f, at = line, sizeof line)) fail(path, "ends early");
		for (int k = 0; k < 16; k++, at = end + (*end == ',')) {
			long n = strtol(at, &end, 10);
			if (end == at || n < 1 || n > MAX_POINTS) fail(path, "a patch does not name 16 points");
			patch[i][k] = (int)n - 1;
		}
	}
	points = read_count(f, path, MAX_POINTS);
	for (int i = 0; i < points; i++) {
		float c[3];
		if (!next_line(f, at = line, sizeof line)) fail(path, "ends early");
		for (int k = 0; k < 3; k++, at = end + (*end == ',')) {
			c[k] = strtof(at, &end);
			if (end == at || !(c[k] > -1e3f && c[k] < 1e3f)) fail(path, "a point does not have three coordinates");
		}
		point[i] = v3(c[0], c[2], -c[1]); // y is up here
	}
	for (int i = 0; i < patches; i++)
		for (int k = 0; k < 16; k++)
			if (patch[i][k] >= points) fail(path, "a patch names a point that is not there");
	fclose(f);
}

static int part_of(int i) {
	return i < 4 ? PART_RIM : i < 12 ? PART_BODY : i < 16 ? PART_HANDLE : i < 20 ? PART_SPOUT
		: i < 24 ? PART_KNOB : i < 28 ? PART_LID : PART_BOTTOM;
}

// bezier evaluates a cubic and its derivative.
static vec bezier(const vec *c, float t, vec *tangent) {
	vec a = mix(c[0], c[1], t), b = mix(c[1], c[2], t), d = mix(c[2], c[3], t);
	vec e = mix(a, b, t), f = mix(b, d, t);
	*tangent = sub(f, e);
	return mix(e, f, t);
}

static vec surface(const vec c[16], float u, float v, vec *normal) {
	vec row[4], slope[4], du, dv, unused;
	for (int i = 0; i < 4; i++) row[i] = bezier(c + 4 * i, v, &slope[i]);
	vec p = bezier(row, u, &du);
	dv = bezier(slope, u, &unused);
	*normal = cross(du, dv);
	return p;
}

#define LIFT 0.01f // the pot stands this much above the mirror
static float turn_cosine = 1, turn_sine;

static inline vec turned(vec p) {
	return v3(p.x * turn_cosine + p.z * turn_sine, p.y, p.z * turn_cosine - p.x * turn_sine);
}
static inline vec turned_back(vec p) {
	return v3(p.x * turn_cosine - p.z * turn_sine, p.y, p.z * turn_cosine + p.x * turn_sine);
}

// teapot_cut tessellates every patch, turned by an angle in radians.
static void teapot_cut(float angle) {
	turn_cosine = cosf(angle), turn_sine = sinf(angle);
	static vec at[CUTS + 1][CUTS + 1], normal[CUTS + 1][CUTS + 1];
	triangle_count = 0;
	for (int i = 0; i < patches; i++) {
		vec c[16];
		int part = part_of(i);
		for (int k = 0; k < 16; k++) {
			c[k] = point[patch[i][k]];
			// The published lid is narrower than its rim: widen it to fit.
			if (part == PART_LID || part == PART_KNOB) c[k].x *= 1.077f, c[k].z *= 1.077f;
		}
		for (int a = 0; a <= CUTS; a++)
			for (int b = 0; b <= CUTS; b++) {
				float u = (float)a / CUTS, v = (float)b / CUTS;
				vec n, p = surface(c, u, v, &n);
				if (dot(n, n) < 1e-8f) // a pole: look beside it
					surface(c, clampf(u, 0.002f, 0.998f), clampf(v, 0.002f, 0.998f), &n);
				n = unit(n);
				at[a][b] = turned(p);
				at[a][b].y += LIFT;
				normal[a][b] = turned(n);
			}
		for (int a = 0; a < CUTS; a++)
			for (int b = 0; b < CUTS; b++)
				for (int half = 0; half < 2; half++) {
					int ka[3] = {a, a + 1, half ? a : a + 1}, kb[3] = {b, half ? b + 1 : b, b + 1};
					triangle *t = &triangles[triangle_count];
					for (int k = 0; k < 3; k++) {
						t->p[k] = at[ka[k]][kb[k]];
						t->n[k] = normal[ka[k]][kb[k]];
					}
					t->part = part;
					vec area = cross(sub(t->p[1], t->p[0]), sub(t->p[2], t->p[0]));
					if (dot(area, area) > 1e-14f) triangle_count++; // no slivers at poles
				}
	}
}

#endif
