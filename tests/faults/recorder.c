/* Preloaded library (LD_PRELOAD) that records every change below RECORDER_FOLDER in one order: file creations, writes,
 * truncations, syncs and folder listings, and also the data sent to sockets and standard output. The records are
 * appended to RECORDER_TRACE; appends by the kernel define the order across threads and processes.
 *
 * Writes are recorded after they succeed, and syncs when they start and when they complete: data recorded as synced was
 * synced. Responses are recorded before they are sent: the trace contains every response that a client has received.
 * Renames by direct system calls are not intercepted; the next listing contains them. */
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

_Static_assert(sizeof(long) == 8, "offsets are passed to the kernel in one register");

struct head { uint64_t kind, length, process, thread, inode, offset; };

static int trace = -1;
static char folder[PATH_MAX];
static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;

static void record(char kind, uint64_t inode, uint64_t offset, const struct iovec *parts, int count, size_t length) {
    if (trace < 0) return;
    struct head head = { (uint64_t)kind, 0, (uint64_t)getpid(), (uint64_t)syscall(SYS_gettid), inode, offset };
    struct iovec all[65] = { { &head, sizeof head } };
    int used = 1;
    for (int n = 0; n < count && used < 65 && length > 0; n++) {
        size_t size = parts[n].iov_len < length ? parts[n].iov_len : length;
        all[used++] = (struct iovec){ parts[n].iov_base, size };
        head.length += size;
        length -= size;
    }
    if (syscall(SYS_writev, trace, all, used) != (long)(sizeof head + head.length)) abort();
}

/* Folder changes are executed and recorded under this lock, so that listings are in the same order. */
static void lock(void) { pthread_mutex_lock(&mutex); if (trace >= 0) flock(trace, LOCK_EX); }
static void unlock(void) { int error = errno; if (trace >= 0) flock(trace, LOCK_UN); pthread_mutex_unlock(&mutex); errno = error; }

static int is_below(const char *path) {
    size_t n = strlen(folder);
    return trace >= 0 && strncmp(path, folder, n) == 0 && (path[n] == '/' || path[n] == 0);
}

static void list(const char *path) {
    char text[1 << 16];
    size_t used = 0;
    struct stat self, entry;
    int error = errno;
    DIR *open = opendir(path);
    if (!open || fstat(dirfd(open), &self)) return;
    for (struct dirent *e; (e = readdir(open)) && used < sizeof text - 512;) {
        if (!strcmp(e->d_name, ".") || !strcmp(e->d_name, "..")) continue;
        if (fstatat(dirfd(open), e->d_name, &entry, AT_SYMLINK_NOFOLLOW)) continue;
        used += (size_t)sprintf(text + used, "%lu %c %s\n", entry.st_ino, S_ISDIR(entry.st_mode) ? 'd' : 'f', e->d_name);
    }
    closedir(open);
    record('L', self.st_ino, 0, &(struct iovec){ text, used }, 1, used);
    errno = error;
}

__attribute__((constructor)) static void begin(void) {
    const char *below = getenv("RECORDER_FOLDER"), *to = getenv("RECORDER_TRACE");
    if (!below || !to || !realpath(below, folder)) return;
    trace = (int)syscall(SYS_openat, AT_FDCWD, to, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0600);
    if (trace < 0) abort();
    lock();
    list(folder);
    unlock();
}

/* Finds the parent folder of `path`; true if it is below RECORDER_FOLDER. */
static int parent_of(int at, const char *path, char *parent) {
    char whole[PATH_MAX + 32];
    if (at == AT_FDCWD || path[0] == '/') snprintf(whole, sizeof whole, "%s", path);
    else snprintf(whole, sizeof whole, "/proc/self/fd/%d/%s", at, path);
    char *slash = strrchr(whole, '/');
    if (slash) slash[slash == whole] = 0;
    return realpath(slash ? whole : ".", parent) && is_below(parent);
}

/* Kind of a file descriptor: 's' socket, 'o' standard output, 'f' recorded file, 'd' recorded folder, otherwise 0. */
static char descriptor_kind(int fd, struct stat *found) {
    char link[64], path[PATH_MAX];
    int error = errno;
    char kind = 0;
    if (trace >= 0 && fstat(fd, found) == 0) {
        kind = S_ISSOCK(found->st_mode) ? 's' : fd == STDOUT_FILENO ? 'o' : 0;
        if (S_ISREG(found->st_mode) || S_ISDIR(found->st_mode)) {
            snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
            ssize_t length = readlink(link, path, sizeof path - 1);
            path[length > 0 ? length : 0] = 0;
            if (is_below(path)) kind = S_ISDIR(found->st_mode) ? 'd' : 'f';
        }
    }
    errno = error;
    return kind;
}

static int opened(int at, const char *path, int flags, mode_t mode) {
    char parent[PATH_MAX];
    struct stat found;
    if (!parent_of(at, path, parent)) return (int)syscall(SYS_openat, at, path, flags, mode);
    lock();
    int existed = faccessat(at, path, F_OK, 0) == 0;
    int fd = (int)syscall(SYS_openat, at, path, flags, mode);
    if (fd >= 0 && fstat(fd, &found) == 0 && S_ISREG(found.st_mode)) {
        if (!existed) record('B', found.st_ino, 0, 0, 0, 0);
        else if (flags & O_TRUNC) record('T', found.st_ino, 0, 0, 0, 0);
    }
    if (fd >= 0) list(parent);
    unlock();
    return fd;
}

#define OPEN(name, arguments, at) \
    int name arguments { va_list more; va_start(more, flags); mode_t mode = va_arg(more, mode_t); va_end(more); \
        return opened(at, path, flags, flags & O_CREAT ? mode : 0); }
OPEN(open, (const char *path, int flags, ...), AT_FDCWD)
OPEN(open64, (const char *path, int flags, ...), AT_FDCWD)
OPEN(openat, (int at, const char *path, int flags, ...), at)
OPEN(openat64, (int at, const char *path, int flags, ...), at)

/* Executes a call that changes names, and lists the affected folders, the one with the new name first. */
static int change_names(int to, const char *new, int from, const char *old, long call, long a, long b, long c, long d, long e) {
    char target[PATH_MAX], source[PATH_MAX];
    int in_new = parent_of(to, new, target), in_old = old && parent_of(from, old, source);
    lock();
    int done = (int)syscall(call, a, b, c, d, e);
    if (in_new) list(target);
    if (in_old && !(in_new && strcmp(target, source) == 0)) list(source);
    unlock();
    return done;
}
#define P(pointer) ((long)(pointer))
int unlinkat(int at, const char *path, int flags) { return change_names(at, path, 0, 0, SYS_unlinkat, at, P(path), flags, 0, 0); }
int unlink(const char *path) { return unlinkat(AT_FDCWD, path, 0); }
int mkdir(const char *path, mode_t mode) { return change_names(AT_FDCWD, path, 0, 0, SYS_mkdirat, AT_FDCWD, P(path), mode, 0, 0); }
int rename(const char *old, const char *new) { return change_names(AT_FDCWD, new, AT_FDCWD, old, SYS_renameat2, AT_FDCWD, P(old), AT_FDCWD, P(new), 0); }
int link(const char *old, const char *new) { return change_names(AT_FDCWD, new, AT_FDCWD, old, SYS_linkat, AT_FDCWD, P(old), AT_FDCWD, P(new), 0); }

static ssize_t written(int fd, const struct iovec *parts, int count, long call, long a, long b, long c, long at) {
    struct stat found;
    char kind = descriptor_kind(fd, &found);
    if (kind == 's' || kind == 'o') record(kind == 's' ? 'A' : 'O', found.st_ino, (uint64_t)fd, parts, count, SIZE_MAX);
    ssize_t done = syscall(call, fd, a, b, c, 0, 0);
    if (kind == 'f' && done > 0) {
        long offset = at >= 0 ? at : lseek(fd, 0, SEEK_CUR) - done;
        record('W', found.st_ino, (uint64_t)offset, parts, count, (size_t)done);
    }
    return done;
}
#define PART(bytes, size) &(struct iovec){ (void *)(bytes), size }, 1
ssize_t write(int fd, const void *bytes, size_t size) { return written(fd, PART(bytes, size), SYS_write, P(bytes), P(size), 0, -1); }
ssize_t pwrite64(int fd, const void *bytes, size_t size, off_t at) { return written(fd, PART(bytes, size), SYS_pwrite64, P(bytes), P(size), at, at); }
ssize_t writev(int fd, const struct iovec *parts, int count) { return written(fd, parts, count, SYS_writev, P(parts), count, 0, -1); }
ssize_t send(int fd, const void *bytes, size_t size, int flags) { return written(fd, PART(bytes, size), SYS_sendto, P(bytes), P(size), flags, -1); }
ssize_t sendmsg(int fd, const struct msghdr *m, int flags) { return written(fd, m->msg_iov, (int)m->msg_iovlen, SYS_sendmsg, P(m), flags, 0, -1); }

int ftruncate64(int fd, off_t size) {
    struct stat found;
    int done = (int)syscall(SYS_ftruncate, fd, size);
    if (done == 0 && descriptor_kind(fd, &found) == 'f') record('T', found.st_ino, (uint64_t)size, 0, 0, 0);
    return done;
}

static int synced(int fd, long call) {
    struct stat found;
    char path[64], kind = descriptor_kind(fd, &found);
    int is_recorded = kind == 'f' || kind == 'd';
    snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    lock();
    if (kind == 'd') list(path);
    if (is_recorded) record('S', found.st_ino, 0, 0, 0, 0);
    unlock();
    int done = (int)syscall(call, fd);
    if (is_recorded && done == 0) record('E', found.st_ino, 0, 0, 0, 0);
    return done;
}
int fsync(int fd) { return synced(fd, SYS_fsync); }
int fdatasync(int fd) { return synced(fd, SYS_fdatasync); }

/* Unsupported, so that callers fall back to plain writes, which are recorded. */
ssize_t copy_file_range(int a, off_t *b, int c, off_t *d, size_t e, unsigned f) { errno = ENOSYS; return -1; }
