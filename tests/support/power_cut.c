/* Keep what a power cut would leave of a folder: preloaded into the processes of a node and of its database.

At each fsync, which syncs nothing else here, the file, or the list of names in the folder, is copied to POWER_CUT_KEPT:

    file/<inode>-<birth>     the content of a file
    names/<inode>-<birth>    of a folder; a line each: key, type, mode, user, group, time in ns, name.
                             Its own time is that of the folder, which a sync of the folder keeps with its names.

When POWER_CUT_KEPT has been renamed, the power is off: whoever syncs then stands still and says nothing any more.
Below POWER_CUT_NAMED, a sync of a file keeps its name as well, as ext4, XFS and Btrfs do and PostgreSQL expects. */

#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#define LOCKS 64

static void stand_still(void) {
    for (;;)
        pause();
}

static int is_below(const char *path, const char *root) {
    size_t length = root ? strlen(root) : 0;
    return length && !strncmp(path, root, length) && (path[length] == '/' || !path[length]);
}

static int key_of(int folder, const char *name, int flags, struct statx *found, char *key) {
    if (statx(folder, name, flags | AT_SYMLINK_NOFOLLOW, STATX_BASIC_STATS | STATX_BTIME, found))
        return -1;
    return sprintf(key, "%llu-%lld%09u", (unsigned long long)found->stx_ino, (long long)found->stx_btime.tv_sec,
                   found->stx_btime.tv_nsec);
}

int power_cut_key(const char *path, char *key) {
    struct statx found;
    return key_of(AT_FDCWD, path, 0, &found, key);
}

static void write_names(int descriptor, FILE *into) {
    struct statx found;
    struct dirent *entry;
    char key[80];
    int again = openat(descriptor, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR *names = again < 0 ? NULL : fdopendir(again);
    while (names && (entry = readdir(names))) {
        if (!strcmp(entry->d_name, ".") || !strcmp(entry->d_name, ".."))
            continue;
        if (key_of(again, entry->d_name, 0, &found, key) < 0)
            continue; /* removed meanwhile */
        if (!S_ISDIR(found.stx_mode) && !S_ISREG(found.stx_mode))
            continue; /* a socket */
        fprintf(into, "%s %c %o %u %u %lld%09u %s\n", key, S_ISDIR(found.stx_mode) ? 'd' : 'f', found.stx_mode & 07777,
                found.stx_uid, found.stx_gid, (long long)found.stx_mtime.tv_sec, found.stx_mtime.tv_nsec, entry->d_name);
    }
    if (names)
        closedir(names);
}

static void write_content(const char *path, FILE *into) {
    static const size_t chunk = 1 << 20;
    int from = open(path, O_RDONLY | O_CLOEXEC);
    while (from >= 0 && copy_file_range(from, NULL, fileno(into), NULL, chunk, 0) > 0)
        ;
    if (from >= 0)
        close(from);
}

static void keep(int descriptor) {
    const char *root = getenv("POWER_CUT_ROOT"), *kept = getenv("POWER_CUT_KEPT"), *named = getenv("POWER_CUT_NAMED");
    char link[64], path[PATH_MAX], name[PATH_MAX], part[PATH_MAX], key[80];
    struct statx found;
    sprintf(link, "/proc/self/fd/%d", descriptor);
    ssize_t length = readlink(link, path, sizeof path - 1);
    if (length < 0 || !kept)
        return;
    path[length] = 0;
    if (!is_below(path, root) || key_of(descriptor, "", AT_EMPTY_PATH, &found, key) < 0)
        return;
    /* One at a time for each file: a slower copy must not take the place of a later one. */
    snprintf(name, sizeof name, "%s/lock-%llu", kept, (unsigned long long)found.stx_ino % LOCKS);
    int lock = open(name, O_RDWR | O_CREAT | O_CLOEXEC, 0666);
    if (lock < 0)
        stand_still();
    flock(lock, LOCK_EX);
    int is_folder = S_ISDIR(found.stx_mode);
    snprintf(part, sizeof part, "%s/part-%ld", kept, (long)syscall(SYS_gettid));
    snprintf(name, sizeof name, "%s/%s/%s", kept, is_folder ? "names" : "file", key);
    FILE *into = fopen(part, "we");
    if (!into)
        stand_still();
    if (is_folder)
        write_names(descriptor, into);
    else
        write_content(link, into);
    fclose(into);
    if (is_folder && key_of(descriptor, "", AT_EMPTY_PATH, &found, key) > 0) { /* with the names, or after them */
        struct timespec time = {found.stx_mtime.tv_sec, found.stx_mtime.tv_nsec}, times[] = {time, time};
        utimensat(AT_FDCWD, part, times, 0);
    }
    if (rename(part, name))
        stand_still();
    close(lock);
    if (!is_folder && is_below(path, named)) {
        int folder = open(dirname(path), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        if (folder >= 0) {
            keep(folder);
            close(folder);
        }
    }
}

int fsync(int descriptor) {
    int error = errno;
    if (fcntl(descriptor, F_GETFD) < 0)
        return -1;
    keep(descriptor);
    errno = error;
    return 0;
}

int fdatasync(int descriptor) { return fsync(descriptor); }
