// film renders one frame of the teapot turning in a lit room, as a WASM guest.
//
//	film FRAME FRAMES WIDTH HEIGHT SAMPLES
//
// reads the Bezier patches of /in/teapot.txt and writes /out/frame-FRAME.ppm.
// The last frame leads back to the first. The same arguments give the same
// bytes on every engine: chance comes from hashes of frame, pixel and sample,
// and all arithmetic is IEEE single precision that no engine may fuse.
#include "denoise.h"
#include "path.h"

#define EXPOSURE 1.0f

static float tent(float u) { return u < 0.5f ? sqrtf(2 * u) - 1 : 1 - sqrtf(2 - 2 * u); }

static int number(const char *name, const char *text, int least, int most) {
	char *end;
	long n = strtol(text, &end, 10);
	if (*end || end == text || n < least || n > most) fail(name, "is not a number in its range");
	return (int)n;
}

static float film_curve(float x) { // Narkowicz's fit of the ACES curve, 2015
	x *= EXPOSURE;
	return clampf(x * (2.51f * x + 0.03f) / (x * (2.43f * x + 0.59f) + 0.14f), 0, 1);
}
static float srgb(float x) { return x < 0.0031308f ? 12.92f * x : 1.055f * powf(x, 1 / 2.4f) - 0.055f; }

static unsigned char byte(float x) { return (unsigned char)(srgb(film_curve(x)) * 255 + 0.5f); }

// A tally keeps the sum of a pixel's samples and how far they disagree.
typedef struct {
	vec sum;
	float l, l2; // sums of luminance and of its square
} tally;

static inline void count(tally *t, vec c) {
	float l = luminance(c);
	t->sum = add(t->sum, c);
	t->l += l;
	t->l2 += l * l;
}

// variance is that of the mean's luminance.
static float variance(const tally *t, int n) {
	float k = 1 / (float)n, mean = t->l * k;
	return fmax2(0, t->l2 * k - mean * mean) * k;
}

int main(int argc, char **argv) {
	if (argc != 6) fail("usage", "film FRAME FRAMES WIDTH HEIGHT SAMPLES");
	int frames = number("FRAMES", argv[2], 1, 10000), frame = number("FRAME", argv[1], 0, frames - 1);
	int width = number("WIDTH", argv[3], 8, 2048), height = number("HEIGHT", argv[4], 8, 2048);
	int spp = number("SAMPLES", argv[5], 1, MAX_SPP);
	float turn = 2 * PI * (float)frame / (float)frames;
	teapot_read("/in/teapot.txt");
	teapot_cut(turn + 0.6f);
	bvh_build();
	sampler_tables(spp);
	lamps_arrange();

	float sway = 0.20f * sinf(turn), height_of_eye = 3.5f + 0.35f * cosf(turn);
	vec target = v3(0, 0.85f, 0), eye = v3(11.6f * sinf(sway), height_of_eye, 11.6f * cosf(sway));
	vec ahead = unit(sub(target, eye)), right = unit(cross(ahead, v3(0, 1, 0))), up = cross(right, ahead);
	float half = 0.268f;
	layer matt, shine;
	vec *albedo = calloc((size_t)(width * height), sizeof *albedo), *glow = calloc((size_t)(width * height), sizeof *glow);
	if (!albedo || !glow || !layer_new(&matt, width, height) || !layer_new(&shine, width, height))
		fail("memory", "there is not enough for a picture of this size");
	for (int y = 0; y < height; y++)
		for (int x = 0; x < width; x++) {
			int here = y * width + x;
			sampler rng = {bits(bits((uint32_t)frame * 0x10001u + 7) + (uint32_t)(y * 4096 + x)), 0, 0};
			tally m = {0}, s = {0};
			vec normal = {0}, first = {0};
			float distance = 0, depth = 0;
			for (int i = 0; i < spp; i++) {
				rng.index = (uint32_t)i;
				rng.dim = 0;
				pair q = draw(&rng);
				float u = ((float)x + 0.5f + tent(q.u) - 0.5f * (float)width) / (0.5f * (float)height);
				float v = (0.5f * (float)height - ((float)y + 0.5f + tent(q.v))) / (0.5f * (float)height);
				vec d = unit(add(ahead, add(scale(right, u * half), scale(up, v * half))));
				look l;
				look_along(eye, d, &rng, &l);
				count(&m, mul(l.matt, l.albedo));
				count(&s, l.shine);
				albedo[here] = add(albedo[here], l.albedo);
				glow[here] = add(glow[here], l.glow);
				normal = add(normal, l.normal);
				first = add(first, l.first);
				distance += l.far;
				depth += l.depth;
			}
			float k = 1 / (float)spp;
			vec a = albedo[here] = add(scale(albedo[here], k), grey(1e-3f)), c = scale(m.sum, k);
			glow[here] = scale(glow[here], k);
			int at = layer_at(&matt, x, y);
			layer_set(&matt, at, v3(c.x / a.x, c.y / a.y, c.z / a.z), variance(&m, spp) / square(luminance(a)), scale(normal, k), distance * k);
			layer_set(&shine, at, scale(s.sum, k), variance(&s, spp), scale(first, k), depth * k);
		}
	if (!denoise(&matt, 4, 5) || !denoise(&shine, 3, 1.5f)) fail("memory", "there is not enough for a picture of this size");

	char path[64];
	snprintf(path, sizeof path, "/out/frame-%03d.ppm", frame);
	FILE *f = fopen(path, "wb");
	if (!f) fail(path, "cannot be created");
	fprintf(f, "P6\n%d %d\n255\n", width, height);
	for (int y = 0; y < height; y++)
		for (int x = 0; x < width; x++) {
			int here = y * width + x, at = layer_at(&matt, x, y);
			vec c = add(add(mul(layer_get(&matt, at), albedo[here]), layer_get(&shine, at)), glow[here]);
			unsigned char rgb[3] = {byte(c.x), byte(c.y), byte(c.z)};
			fwrite(rgb, 3, 1, f);
		}
	if (ferror(f) | fclose(f)) fail(path, "cannot be written");
	return 0;
}
