// The kernels that figures are quoted for, one a run: kernels NAME.
#include <math.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
typedef struct {
  double x, y, z, vx, vy, vz, m;
} B;
#define SM (4 * 3.141592653589793 * 3.141592653589793)
#define DP 365.24
static double nbody(int n) {
  B b[5] = {{0, 0, 0, 0, 0, 0, SM},
            {4.84143144246472090e+00, -1.16032004402742839e+00, -1.03622044471123109e-01,
             1.66007664274403694e-03 * DP, 7.69901118419740425e-03 * DP, -6.90460016972063023e-05 * DP,
             9.54791938424326609e-04 * SM},
            {8.34336671824457987e+00, 4.12479856412430479e+00, -4.03523417114321381e-01,
             -2.76742510726411899e-03 * DP, 4.99852801234917238e-03 * DP, 2.30417297573763929e-05 * DP,
             2.85885980666130812e-04 * SM},
            {1.28943695621391310e+01, -1.51111514016986312e+01, -2.23307578892655734e-01,
             2.96460137564761618e-03 * DP, 2.37847173959480950e-03 * DP, -2.96589568540237556e-05 * DP,
             4.36624404335156298e-05 * SM},
            {1.53796971148509165e+01, -2.59193146099879641e+01, 1.79258772950371181e-01,
             2.68067772490389322e-03 * DP, 1.62824170038242295e-03 * DP, -9.51592254519715870e-05 * DP,
             5.15138902046611451e-05 * SM}};
  for (int k = 0; k < n; k++) {
    for (int i = 0; i < 5; i++) {
      B* p = &b[i];
      for (int j = i + 1; j < 5; j++) {
        B* q = &b[j];
        double dx = p->x - q->x, dy = p->y - q->y, dz = p->z - q->z;
        double d2 = dx * dx + dy * dy + dz * dz;
        double mag = 0.01 / (d2 * sqrt(d2));
        p->vx -= dx * q->m * mag;
        p->vy -= dy * q->m * mag;
        p->vz -= dz * q->m * mag;
        q->vx += dx * p->m * mag;
        q->vy += dy * p->m * mag;
        q->vz += dz * p->m * mag;
      }
    }
    for (int i = 0; i < 5; i++) {
      b[i].x += 0.01 * b[i].vx;
      b[i].y += 0.01 * b[i].vy;
      b[i].z += 0.01 * b[i].vz;
    }
  }
  return b[0].x;
}
static int mandel(int n) {
  int c = 0;
  for (int y = 0; y < n; y++)
    for (int x = 0; x < n; x++) {
      double cr = 2.0 * x / n - 1.5, ci = 2.0 * y / n - 1, zr = 0, zi = 0;
      int i = 0;
      for (; i < 50 && zr * zr + zi * zi < 4; i++) {
        double t = zr * zr - zi * zi + cr;
        zi = 2 * zr * zi + ci;
        zr = t;
      }
      c += i;
    }
  return c;
}
static const uint32_t K[64] = {
    0x428a2f98, 0x71374491, 0xb5c0fbcf, 0xe9b5dba5, 0x3956c25b, 0x59f111f1, 0x923f82a4, 0xab1c5ed5,
    0xd807aa98, 0x12835b01, 0x243185be, 0x550c7dc3, 0x72be5d74, 0x80deb1fe, 0x9bdc06a7, 0xc19bf174,
    0xe49b69c1, 0xefbe4786, 0x0fc19dc6, 0x240ca1cc, 0x2de92c6f, 0x4a7484aa, 0x5cb0a9dc, 0x76f988da,
    0x983e5152, 0xa831c66d, 0xb00327c8, 0xbf597fc7, 0xc6e00bf3, 0xd5a79147, 0x06ca6351, 0x14292967,
    0x27b70a85, 0x2e1b2138, 0x4d2c6dfc, 0x53380d13, 0x650a7354, 0x766a0abb, 0x81c2c92e, 0x92722c85,
    0xa2bfe8a1, 0xa81a664b, 0xc24b8b70, 0xc76c51a3, 0xd192e819, 0xd6990624, 0xf40e3585, 0x106aa070,
    0x19a4c116, 0x1e376c08, 0x2748774c, 0x34b0bcb5, 0x391c0cb3, 0x4ed8aa4a, 0x5b9cca4f, 0x682e6ff3,
    0x748f82ee, 0x78a5636f, 0x84c87814, 0x8cc70208, 0x90befffa, 0xa4506ceb, 0xbef9a3f7, 0xc67178f2};
#define R(x, n) (((x) >> (n)) | ((x) << (32 - (n))))
static void blk(uint32_t* h, const uint8_t* p) {
  uint32_t w[64];
  for (int i = 0; i < 16; i++) w[i] = p[4 * i] << 24 | p[4 * i + 1] << 16 | p[4 * i + 2] << 8 | p[4 * i + 3];
  for (int i = 16; i < 64; i++) {
    uint32_t s0 = R(w[i - 15], 7) ^ R(w[i - 15], 18) ^ (w[i - 15] >> 3),
             s1 = R(w[i - 2], 17) ^ R(w[i - 2], 19) ^ (w[i - 2] >> 10);
    w[i] = w[i - 16] + s0 + w[i - 7] + s1;
  }
  uint32_t a = h[0], b = h[1], c = h[2], d = h[3], e = h[4], f = h[5], g = h[6], q = h[7];
  for (int i = 0; i < 64; i++) {
    uint32_t t1 = q + (R(e, 6) ^ R(e, 11) ^ R(e, 25)) + ((e & f) ^ (~e & g)) + K[i] + w[i],
             t2 = (R(a, 2) ^ R(a, 13) ^ R(a, 22)) + ((a & b) ^ (a & c) ^ (b & c));
    q = g;
    g = f;
    f = e;
    e = d + t1;
    d = c;
    c = b;
    b = a;
    a = t1 + t2;
  }
  h[0] += a;
  h[1] += b;
  h[2] += c;
  h[3] += d;
  h[4] += e;
  h[5] += f;
  h[6] += g;
  h[7] += q;
}
static uint32_t sha(int n) {
  static uint8_t buf[65536];
  uint32_t h[8] = {0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a,
                   0x510e527f, 0x9b05688c, 0x1f83d9ab, 0x5be0cd19};
  for (int i = 0; i < n; i++) {
    memcpy(buf, h, 32);
    for (int o = 0; o < 65536; o += 64) blk(h, buf + o);
  }
  return h[0];
}
static uint64_t collatz(int n) {
  uint64_t t = 0;
  for (int i = 1; i < n; i++) {
    uint64_t x = i;
    while (x != 1) {
      if (x & 1)
        x = 3 * x + 1;
      else
        x >>= 1;
      t++;
    }
  }
  return t;
}
static float MA[256 * 256], MB[256 * 256], MC[256 * 256];
static double matmulf(int n) {
  for (int i = 0; i < n * n; i++) {
    MA[i] = (i % 17) * 0.5f;
    MB[i] = (i % 13) * 0.25f;
    MC[i] = 0;
  }
  for (int r = 0; r < 4; r++)
    for (int i = 0; i < n; i++)
      for (int k = 0; k < n; k++) {
        float a = MA[i * n + k];
        for (int j = 0; j < n; j++) MC[i * n + j] += a * MB[k * n + j];
      }
  double s = 0;
  for (int i = 0; i < n * n; i++) s += MC[i];
  return s;
}
static double DA[256 * 256], DB[256 * 256], DC[256 * 256];
static double matmul(int n) {
  for (int i = 0; i < n * n; i++) {
    DA[i] = (i % 17) * 0.5;
    DB[i] = (i % 13) * 0.25;
  }
  for (int i = 0; i < n; i++)
    for (int j = 0; j < n; j++) {
      double s = 0;
      for (int k = 0; k < n; k++) s += DA[i * n + k] * DB[k * n + j];
      DC[i * n + j] = s;
    }
  double s = 0;
  for (int i = 0; i < n * n; i++) s += DC[i];
  return s;
}
static double matmulikj(int n) {
  for (int i = 0; i < n * n; i++) {
    DA[i] = (i % 17) * 0.5;
    DB[i] = (i % 13) * 0.25;
    DC[i] = 0;
  }
  for (int r = 0; r < 4; r++)
    for (int i = 0; i < n; i++)
      for (int k = 0; k < n; k++) {
        double a = DA[i * n + k];
        for (int j = 0; j < n; j++) DC[i * n + j] += a * DB[k * n + j];
      }
  double s = 0;
  for (int i = 0; i < n * n; i++) s += DC[i];
  return s;
}
static int tight(int n) {
  unsigned x = 1;
  for (int i = 0; i < n; i++) {
    x ^= x << 13;
    x ^= x >> 17;
    x ^= x << 5;
  }
  return x;
}
static int fibo(int n) { return n < 2 ? n : fibo(n - 1) + fibo(n - 2); }
int main(int argc, char** argv) {
  const char* k = argc > 1 ? argv[1] : "";
#define IS(n) if (!strcmp(k, n))
  IS("tight") printf("%d\n", tight(200000000));
  IS("sha256") printf("%08x\n", sha(400));
  IS("nbody") printf("%.12f\n", nbody(1000000));
  IS("mandelbrot") printf("%d\n", mandel(1500));
  IS("matmul") printf("%.3f\n", matmul(256));
  IS("saxpy") printf("%.3f\n", matmulikj(256));
  IS("saxpy32") printf("%.3f\n", matmulf(256));
  IS("collatz") printf("%llu\n", (unsigned long long)collatz(700000));
  IS("calls") printf("%d\n", fibo(35));
  return 0;
}
