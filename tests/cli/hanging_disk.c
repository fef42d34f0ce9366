/* Preloaded library (LD_PRELOAD) that simulates a disk or memory card that hangs. While the file DISK_HANGS exists, syncs
   block and reads succeed. While the file DISK_READS_HANG exists, every read, open and stat of a file in the folder DISK
   blocks, too. */
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

static void wait_while_exists(const char *flag) {
    while (flag && access(flag, F_OK) == 0)
        usleep(5000);
}

static void wait_for_syncs(void) {
    wait_while_exists(getenv("DISK_HANGS"));
}

static void wait_for_path(const char *path) {
    const char *disk = getenv("DISK");
    /* DISK is the working directory of the program: relative paths are in it. */
    if (disk && path && ((path[0] && path[0] != '/') || strncmp(path, disk, strlen(disk)) == 0))
        wait_while_exists(getenv("DISK_READS_HANG"));
}

static void wait_for_descriptor(int fd) {
    const char *flag = getenv("DISK_READS_HANG");
    if (!flag || access(flag, F_OK) != 0)
        return;
    char link[64], path[4096];
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t length = readlink(link, path, sizeof path - 1);
    if (length > 0) {
        path[length] = 0;
        wait_for_path(path);
    }
}

int fsync(int fd) {
    wait_for_syncs();
    return (int)syscall(SYS_fsync, fd);
}

int fdatasync(int fd) {
    wait_for_syncs();
    return (int)syscall(SYS_fdatasync, fd);
}

ssize_t read(int fd, void *buffer, size_t count) {
    wait_for_descriptor(fd);
    return syscall(SYS_read, fd, buffer, count);
}

ssize_t pread(int fd, void *buffer, size_t count, off_t offset) {
    wait_for_descriptor(fd);
    return syscall(SYS_pread64, fd, buffer, count, offset);
}

ssize_t pread64(int fd, void *buffer, size_t count, off64_t offset) {
    wait_for_descriptor(fd);
    return syscall(SYS_pread64, fd, buffer, count, offset);
}

static int open_at(const char *path, int flags, va_list more) {
    mode_t mode = flags & (O_CREAT | O_TMPFILE) ? va_arg(more, mode_t) : 0;
    wait_for_path(path);
    return (int)syscall(SYS_openat, AT_FDCWD, path, flags, mode);
}

int open(const char *path, int flags, ...) {
    va_list more;
    va_start(more, flags);
    int fd = open_at(path, flags, more);
    va_end(more);
    return fd;
}

int open64(const char *path, int flags, ...) {
    va_list more;
    va_start(more, flags);
    int fd = open_at(path, flags | O_LARGEFILE, more);
    va_end(more);
    return fd;
}

int statx(int folder, const char *path, int flags, unsigned mask, struct statx *found) {
    wait_for_path(path);
    return (int)syscall(SYS_statx, folder, path, flags, mask, found);
}
