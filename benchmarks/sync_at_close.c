/* Preloaded by ingest.py: makes a program sync each file to disk at fclose. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

int fclose(FILE *file)
{
    static int (*real)(FILE *);
    struct stat found;

    if (!real)
        real = (int (*)(FILE *))dlsym(RTLD_NEXT, "fclose");
    fflush(file);
    if (!fstat(fileno(file), &found) && S_ISREG(found.st_mode))
        fsync(fileno(file));
    return real(file);
}
