// A second guest that asks its host for one thing at a time: what programs do
// with files, folders and streams. Built by the Makefile beside it.
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

static const char *why(int failed) { return failed ? strerror(errno) : "ok"; }

static void touch(const char *path) {
  int fd = open(path, O_CREAT | O_WRONLY, 0600);
  if (fd < 0) printf("touch %.40s: %s\n", path, strerror(errno));
  close(fd);
}

// A folder that is read while it changes, and read again from a place.
static void listing(void) {
  char path[64];
  for (int i = 0; i < 300; i++) {
    snprintf(path, sizeof path, "/scratch/%03d", (i * 37) % 300);
    touch(path);
  }
  DIR *d = opendir("/scratch");
  struct dirent *e;
  long middle = 0;
  int n = 0, sorted = 1;
  char last[256] = "";
  while ((e = readdir(d))) {
    if (e->d_name[0] == '.') continue;
    sorted &= strcmp(last, e->d_name) < 0;
    strcpy(last, e->d_name);
    if (n++ == 100) middle = telldir(d);
    snprintf(path, sizeof path, "/scratch/%s", e->d_name);
    if (n % 2) unlink(path);
  }
  printf("%d entries, sorted %d, the last %s\n", n, sorted, last);
  seekdir(d, middle);
  e = readdir(d);
  printf("after the hundredth: %s\n", e ? e->d_name : "nothing");
  rewinddir(d);
  for (n = 0; (e = readdir(d)); n++)
    if (n < 4) printf("%s %s\n", e->d_type == DT_DIR ? "dir" : "file", e->d_name);
  printf("%d are left\n", n);
  closedir(d);
  printf("no folder: %s\n", why(opendir("/scratch/001") == 0));
}

static void nested(void) {
  char path[1024] = "/out";
  for (int i = 0; i < 6; i++) {
    sprintf(path + strlen(path), "/level-%d", i);
    printf("mkdir: %s\n", why(mkdir(path, 0700)));
    char file[1024];
    sprintf(file, "%s/file", path);
    FILE *f = fopen(file, "w");
    fprintf(f, "%s\n", file);
    fclose(f);
  }
  mkdir("/out/empty", 0700);
  touch("/out/level-0.txt"); // stands before what is in level-0
  touch("/out/nothing");
  printf("move: %s\n", why(rename("/out/level-0/level-1/level-2", "/out/moved")));
  printf("stdout: %s\n", why(open("/out/stdout", O_CREAT | O_WRONLY, 0600) < 0));
  printf("remove: %s\n", why(rmdir("/out/moved")));
  printf("into itself: %s\n", why(rename("/out/moved", "/out/moved/level-3/x")));
}

static void names(void) {
  char name[400], path[5000];
  memset(name, 'n', sizeof name);
  for (int n = 254; n <= 256; n++) {
    snprintf(path, sizeof path, "/scratch/%.*s", n, name);
    printf("name of %d: %s\n", n, why(open(path, O_CREAT | O_WRONLY, 0600) < 0));
  }
  for (int n = 200; n < 206; n++) { // around 512 below /out
    snprintf(path, sizeof path, "/out/%.*s", n, name);
    mkdir(path, 0700);
    snprintf(path, sizeof path, "/out/%.*s/%.*s", n, name, n, name);
    mkdir(path, 0700);
    snprintf(path, sizeof path, "/out/%.*s/%.*s/%.*s", n, name, n, name, 108, name);
    printf("path of %d: %s\n", (int)strlen(path) - 5, why(open(path, O_CREAT | O_WRONLY, 0600) < 0));
  }
  strcpy(path, "/scratch");
  int deep = 0;
  for (; deep < 200; deep++) {
    strcat(path, "/d");
    if (mkdir(path, 0700)) break;
  }
  printf("%d folders deep: %s\n", deep, strerror(errno));
  printf("a backslash: %s\n", why(open("/scratch/a\\b", O_CREAT | O_WRONLY, 0600) < 0));
  printf("no UTF-8: %s\n", why(open("/scratch/\xff", O_CREAT | O_WRONLY, 0600) < 0));
  printf("two slashes: %s\n", why(open("//scratch//.//x", O_CREAT | O_WRONLY, 0600) < 0));
  printf("a slash at its end: %s\n", why(open("/scratch/y/", O_CREAT | O_WRONLY, 0600) < 0));
  memset(path, '/', sizeof path);
  strcpy(path + 4200, "scratch");
  struct stat st;
  printf("a path of 4207: %s\n", why(stat(path, &st)));
}

// As many files as may be, by a counter in the path: printf would be most of
// the work.
static void many(const char *dir) {
  char path[64];
  snprintf(path, sizeof path, "%s/00000", dir);
  char *last = path + strlen(path) - 1;
  for (int i = 0;; i++) {
    int fd = open(path, O_CREAT | O_EXCL | O_WRONLY, 0600);
    if (fd < 0) {
      printf("after %d files: %s\n", i, strerror(errno));
      return;
    }
    close(fd);
    char *c = last;
    while (*c == '9') *c-- = '0';
    ++*c;
  }
}

static void say(int fd, const char *s) {
  if (write(fd, s, strlen(s)) < 0) printf("write: %s\n", strerror(errno));
}

static void show(const char *path) {
  char b[200];
  int fd = open(path, O_RDONLY);
  ssize_t n = read(fd, b, sizeof b);
  for (ssize_t i = 0; i < n; i++)
    if (!b[i]) b[i] = '.';
  printf("%s: %.*s\n", path, (int)n, b);
  close(fd);
}

static void descriptors(void) {
  int a = open("/scratch/f", O_CREAT | O_RDWR, 0600), b = open("/scratch/f", O_WRONLY | O_APPEND);
  say(a, "one ");
  say(b, "two ");
  say(a, "THREE ");
  say(b, "four");
  show("/scratch/f");
  printf("pwrite: %zd\n", pwrite(a, "P", 1, 20));
  printf("pwrite at -1: %s\n", why(pwrite(a, "P", 1, -1) < 0));
  show("/scratch/f");
  printf("cut: %s\n", why(ftruncate(a, 6)));
  printf("grow: %s\n", why(ftruncate(a, 9)));
  show("/scratch/f");
  struct iovec v[3] = {{"x", 1}, {"", 0}, {"yz", 2}};
  printf("writev: %zd\n", writev(b, v, 3));
  char p[3], q[20];
  struct iovec w[2] = {{p, 3}, {q, 20}};
  lseek(a, 0, SEEK_SET);
  printf("readv: %zd %.3s %.3s\n", readv(a, w, 2), p, q);
  printf("seek: %lld", (long long)lseek(a, -4, SEEK_END));
  printf(" %lld", (long long)lseek(a, 2, SEEK_CUR));
  printf(" %s\n", why(lseek(a, -100, SEEK_CUR) < 0));
  printf("unlink: %s\n", why(unlink("/scratch/f")));
  printf("again: %s\n", why(unlink("/scratch/f")));
  struct stat st;
  printf("stat: %s", why(stat("/scratch/f", &st)));
  printf(", fstat %s", why(fstat(a, &st)));
  printf(", %lld bytes\n", (long long)st.st_size);
  int c = open("/scratch/f", O_CREAT | O_EXCL | O_RDWR, 0600);
  say(c, "another");
  lseek(a, 0, SEEK_SET);
  printf("the old one: %zd", read(a, q, 20));
  printf(", the new one: %lld\n", (long long)lseek(c, 0, SEEK_END));
  printf("rename what is open: %s\n", why(rename("/scratch/f", "/scratch/g")));
  touch("/scratch/h");
  int h = open("/scratch/h", O_RDWR);
  say(h, "replaced");
  printf("replace: %s\n", why(rename("/scratch/g", "/scratch/h")));
  show("/scratch/h");
  printf("still there: %zd\n", pread(h, q, 20, 0));
  close(a);
  printf("the lowest number: %d\n", open("/scratch/h", O_RDONLY) == a);
  printf("file where a folder is: %s\n", why(open("/scratch", O_WRONLY) < 0));
  printf("folder where a file is: %s\n", why(open("/scratch/h", O_RDONLY | O_DIRECTORY) < 0));
  printf("twice: %s\n", why(open("/scratch/h", O_CREAT | O_EXCL | O_WRONLY, 0600) < 0));
  printf("truncated: %d", open("/scratch/h", O_WRONLY | O_TRUNC) > 0);
  stat("/scratch/h", &st);
  printf(", %lld bytes\n", (long long)st.st_size);
}

static void streams(void) {
  for (int fd = 0; fd < 3; fd++) {
    struct stat st;
    int bad = fstat(fd, &st);
    printf("%d: tty %d, regular %d, size %lld, seek %s\n", fd, isatty(fd), S_ISREG(st.st_mode), bad ? -1 : (long long)st.st_size, why(lseek(fd, 0, SEEK_CUR) < 0));
  }
  struct pollfd p[2] = {{.fd = 0, .events = POLLIN}, {.fd = 1, .events = POLLOUT}};
  int n = poll(p, 2, 1000);
  printf("poll: %d, %x %x\n", n, (unsigned)p[0].revents, (unsigned)p[1].revents);
  struct timespec before, after;
  clock_gettime(CLOCK_MONOTONIC, &before);
  n = poll(p, 0, 2500);
  clock_gettime(CLOCK_MONOTONIC, &after);
  printf("sleep: %d, %lld ms\n", n, (after.tv_sec - before.tv_sec) * 1000LL + (after.tv_nsec - before.tv_nsec) / 1000000);
  char line[64];
  while (fgets(line, sizeof line, stdin)) printf("line: %s", line);
  printf("end: %d\n", feof(stdin));
  printf("write to stdin: %s\n", why(write(0, "x", 1) < 0));
  printf("read from stdout: %s\n", why(read(1, line, 1) < 0));
  printf("receive: %s\n", why(recv(0, line, 1, 0) < 0));
  printf("send: %s\n", why(send(1, "x", 1, 0) < 0));
  printf("accept: %s\n", why(accept(3, 0, 0) < 0));
  printf("shut down: %s\n", why(shutdown(0, SHUT_RD)));
  fflush(stdout);
  fprintf(stderr, "on stderr\n");
  close(1);
  printf("nobody reads this\n");
}

static void times(void) {
  struct stat a, b;
  struct timespec t[2] = {{1, 2}, {3, 4}}, res;
  stat("/in", &a);
  touch("/scratch/x");
  stat("/scratch/x", &b);
  printf("%lld %lld, inodes differ %d\n", (long long)a.st_mtim.tv_sec, (long long)b.st_mtim.tv_sec, a.st_ino != b.st_ino);
  clock_gettime(CLOCK_REALTIME, t);
  int fd = open("/scratch/x", O_WRONLY);
  say(fd, "x");
  fstat(fd, &b);
  printf("written when it is said to be: %d\n", b.st_mtim.tv_sec == t[0].tv_sec && b.st_mtim.tv_nsec == t[0].tv_nsec);
  printf("set: %s\n", why(futimens(fd, t)));
  clock_getres(CLOCK_REALTIME, &res);
  printf("resolution: %ld ns\n", res.tv_nsec);
  printf("advise: %s, allocate: %d\n", why(posix_fadvise(fd, 0, 0, POSIX_FADV_RANDOM)), posix_fallocate(fd, 0, 100));
  fstat(fd, &b);
  printf("size: %lld, sync: %s\n", (long long)b.st_size, why(fsync(fd)));
}

// A file larger than what is kept in memory, written out of order.
static void spill(void) {
  enum { piece = 50000, pieces = 70 };
  static char b[piece];
  int fd = open("/scratch/large", O_CREAT | O_RDWR, 0600);
  for (int i = 0; i < pieces; i++) {
    int at = (i * 23) % pieces;
    if (at % 7 == 3) continue; // a hole
    memset(b, 'A' + at % 26, piece);
    pwrite(fd, b, piece, (off_t)at * piece);
  }
  ftruncate(fd, 3333333);
  ftruncate(fd, 3400000);
  uint32_t sum = 1, n = 0;
  lseek(fd, 0, SEEK_SET);
  for (ssize_t k; (k = read(fd, b, piece - 7)) > 0; n += k)
    for (ssize_t i = 0; i < k; i++) sum = sum * 16777619 ^ (unsigned char)b[i];
  printf("%u bytes, sum %08x\n", n, sum);
  printf("to out: %s\n", why(rename("/scratch/large", "/out/large")));
}

int main(int argc, char **argv) {
  const char *what = argc > 1 ? argv[1] : "";
  if (!strcmp(what, "listing")) {
    listing();
  } else if (!strcmp(what, "nested")) {
    nested();
  } else if (!strcmp(what, "names")) {
    names();
  } else if (!strcmp(what, "many")) {
    many(argv[2]);
  } else if (!strcmp(what, "descriptors")) {
    descriptors();
  } else if (!strcmp(what, "streams")) {
    streams();
  } else if (!strcmp(what, "times")) {
    times();
  } else if (!strcmp(what, "spill")) {
    spill();
  } else {
    return 2;
  }
  return 0;
}
