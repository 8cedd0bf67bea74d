// A guest that asks its host for one thing at a time and prints the answer.
// Built by the Makefile beside it; probe.wasm is what the suite runs.
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

extern char **environ;

static const char *why(int failed) { return failed ? strerror(errno) : "ok"; }

static int say_open(const char *path, int flags) {
  int fd = open(path, flags, 0600);
  printf("open %s: %s\n", path, why(fd < 0));
  return fd;
}

static void copy(const char *from, const char *to) {
  char buf[4096];
  size_t n;
  FILE *in = fopen(from, "rb"), *out = fopen(to, "wb");
  if (!in || !out) {
    printf("copy: %s\n", strerror(errno));
    exit(1);
  }
  while ((n = fread(buf, 1, sizeof buf, in)) > 0) fwrite(buf, 1, n, out);
  printf("copy: %s\n", why(fclose(out) != 0));
}

static void list(const char *path, int depth) {
  DIR *d = opendir(path);
  if (!d) {
    printf("%s: %s\n", path, strerror(errno));
    return;
  }
  struct dirent *e;
  while ((e = readdir(d))) {
    char sub[256];
    if (!strcmp(e->d_name, ".") || !strcmp(e->d_name, "..")) continue;
    snprintf(sub, sizeof sub, "%s/%s", strcmp(path, "/") ? path : "", e->d_name);
    struct stat st;
    int bad = stat(sub, &st);
    printf("%s %s %lld\n", sub, bad ? "?" : S_ISDIR(st.st_mode) ? "dir" : "file", bad || S_ISDIR(st.st_mode) ? 0 : (long long)st.st_size);
    if (depth > 0 && !bad && S_ISDIR(st.st_mode)) list(sub, depth - 1);
  }
  closedir(d);
}

static void clocks(void) {
  struct timespec a, b, m, pause = {5, 0};
  clock_gettime(CLOCK_REALTIME, &a);
  clock_gettime(CLOCK_REALTIME, &b);
  clock_gettime(CLOCK_MONOTONIC, &m);
  printf("%lld.%09ld %lld.%09ld %lld.%09ld\n", a.tv_sec, a.tv_nsec, b.tv_sec, b.tv_nsec, m.tv_sec, m.tv_nsec);
  nanosleep(&pause, 0);
  clock_gettime(CLOCK_REALTIME, &b);
  printf("slept %lld s\n", b.tv_sec - a.tv_sec);
}

static void random_bytes(void) {
  unsigned char b[40];
  getentropy(b, sizeof b);
  for (size_t i = 0; i < sizeof b; i++) printf("%02x", b[i]);
  printf("\n");
}

static void scratch(void) {
  printf("mkdir: %s\n", why(mkdir("/scratch/a", 0700)));
  printf("again: %s\n", why(mkdir("/scratch/a", 0700)));
  int fd = say_open("/scratch/a/x", O_CREAT | O_EXCL | O_RDWR);
  printf("write: %zd\n", write(fd, "hello world", 11));
  char b[8] = {0};
  printf("pread: %zd %s\n", pread(fd, b, 5, 6), b);
  printf("seek: %lld\n", (long long)lseek(fd, 100, SEEK_SET));
  printf("past the end: %zd\n", read(fd, b, 5));
  printf("hole: %zd\n", write(fd, "!", 1));
  printf("truncate: %s\n", why(ftruncate(fd, 5)));
  printf("end: %lld\n", (long long)lseek(fd, 0, SEEK_END));
  printf("rename: %s\n", why(rename("/scratch/a/x", "/scratch/y")));
  printf("rmdir: %s\n", why(rmdir("/scratch/a")));
  printf("to out: %s\n", why(rename("/scratch/y", "/out/y")));
  printf("write on: %zd\n", write(fd, "!!", 2));
  printf("unlink: %s\n", why(unlink("/out/y")));
  printf("unlinked: %zd %s\n", pread(fd, b, 7, 0), b);
  close(fd);
  printf("closed: %s\n", why(write(fd, "x", 1) < 0));
  fd = say_open("/tmp/t", O_CREAT | O_WRONLY | O_APPEND);
  write(fd, "one", 3);
  lseek(fd, 0, SEEK_SET);
  write(fd, "two", 3);
  printf("read what is write-only: %s\n", why(read(fd, b, 1) < 0));
  close(fd);
  list("/", 2);
}

static void escape(void) {
  say_open("/etc/passwd", O_RDONLY);
  say_open("../../../../etc/passwd", O_RDONLY);
  say_open("/in/../../etc/passwd", O_RDONLY);
  say_open("/proc/self/environ", O_RDONLY);
  say_open("/in/new", O_CREAT | O_WRONLY);
  say_open("/in/a.txt", O_WRONLY | O_TRUNC);
  say_open("/new", O_CREAT | O_WRONLY);
  say_open("/in/dir", O_RDONLY | O_DIRECTORY);
  say_open("/in/a.txt/x", O_RDONLY);
  printf("symlink: %s\n", why(symlink("/etc", "/scratch/etc")));
  printf("link: %s\n", why(link("/in/a.txt", "/scratch/a.txt")));
  printf("unlink: %s\n", why(unlink("/in/a.txt")));
  printf("rename: %s\n", why(rename("/in/a.txt", "/scratch/a.txt")));
  printf("rmdir: %s\n", why(rmdir("/out")));
  printf("close the root: %s\n", why(close(3)));
  say_open("/in/a.txt", O_RDONLY);
}

static void fill(const char *path, long long size) {
  static char block[65536];
  memset(block, 'x', sizeof block);
  int fd = say_open(path, O_CREAT | O_WRONLY);
  long long done = 0;
  while (done < size) {
    ssize_t n = write(fd, block, size - done < (long long)sizeof block ? (size_t)(size - done) : sizeof block);
    if (n < 0) {
      printf("after %lld: %s\n", done, strerror(errno));
      return;
    }
    done += n;
  }
  printf("wrote %lld\n", done);
}

static int deep(volatile int *n) {
  ++*n;
  return deep(n) + *n;
}

static void nans(void) {
  volatile double zero = 0, inf = 1e308 * 10;
  volatile float zerof = 0;
  double ds[4] = {zero / zero, -(zero / zero), inf - inf, zero * inf};
  float fs[2] = {zerof / zerof, -zerof / zerof};
  for (int i = 0; i < 4; i++) {
    uint64_t u;
    memcpy(&u, &ds[i], 8);
    printf("%016llx ", (unsigned long long)u);
  }
  for (int i = 0; i < 2; i++) {
    uint32_t u;
    memcpy(&u, &fs[i], 4);
    printf("%08x ", u);
  }
  printf("%f %g\n", ds[0], ds[2]);
}

static void files(void) {
  char path[64];
  int made = 0;
  for (int i = 0; i < 100000; i++) {
    snprintf(path, sizeof path, "/scratch/%d", i);
    int fd = open(path, O_CREAT | O_WRONLY, 0600);
    if (fd < 0) {
      printf("after %d open files: %s\n", made, strerror(errno));
      break;
    }
    made++;
  }
}

int main(int argc, char **argv) {
  const char *what = argc > 1 ? argv[1] : "args";
  if (!strcmp(what, "args")) {
    for (int i = 0; i < argc; i++) printf("arg %s\n", argv[i]);
    for (char **e = environ; *e; e++) printf("env %s\n", *e);
    fprintf(stderr, "on stderr\n");
  } else if (!strcmp(what, "exit")) {
    exit(atoi(argv[2]));
  } else if (!strcmp(what, "echo")) {
    char b[7];
    ssize_t n;
    while ((n = read(0, b, sizeof b)) > 0) write(1, b, n);
  } else if (!strcmp(what, "copy")) {
    copy(argv[2], argv[3]);
  } else if (!strcmp(what, "list")) {
    list(argv[2], 3);
  } else if (!strcmp(what, "clock")) {
    clocks();
  } else if (!strcmp(what, "random")) {
    random_bytes();
  } else if (!strcmp(what, "scratch")) {
    scratch();
  } else if (!strcmp(what, "escape")) {
    escape();
  } else if (!strcmp(what, "fill")) {
    fill(argv[2], atoll(argv[3]));
  } else if (!strcmp(what, "flood")) {
    for (;;) puts("and on and on");
  } else if (!strcmp(what, "spin")) {
    for (volatile int i = 0;; i++) {}
  } else if (!strcmp(what, "deep")) {
    volatile int n = 0;
    printf("%d\n", deep(&n));
  } else if (!strcmp(what, "grow")) {
    int mib = 0;
    for (char *volatile p; (p = malloc(1 << 20)); mib++) *p = 1;
    printf("%d MiB\n", mib);
  } else if (!strcmp(what, "wild")) {
    printf("about to\n");
    fflush(stdout);
    *(volatile int *)0xfffffff0 = 1;
  } else if (!strcmp(what, "nan")) {
    nans();
  } else if (!strcmp(what, "files")) {
    files();
  } else if (!strcmp(what, "abort")) {
    fprintf(stderr, "giving up\n");
    abort();
  } else {
    return 2;
  }
  return 0;
}
