/* Runs a fuzz target over files and directories: the corpus, or an input that was found. */
#include <dirent.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static unsigned long run(const char *path)
{
    FILE *f = fopen(path, "rb");
    if (!f) {
        perror(path);
        exit(2);
    }
    size_t capacity = 1 << 17, n;
    uint8_t *all = malloc(capacity), *data;
    n = all ? fread(all, 1, capacity, f) : 0;
    fclose(f);
    data = malloc(n ? n : 1);           /* of the exact size, so that reading behind it is seen */
    if (!all || !data)
        exit(2);
    memcpy(data, all, n);
    free(all);
    fprintf(stderr, "%s\n", path);      /* the last one named is the culprit */
    LLVMFuzzerTestOneInput(data, n);
    free(data);
    return 1;
}

int main(int argc, char **argv)
{
    unsigned long count = 0;
    for (int i = 1; i < argc; i++) {
        DIR *d = opendir(argv[i]);
        if (!d) {
            count += run(argv[i]);
            continue;
        }
        for (struct dirent *entry; (entry = readdir(d));) {
            char path[4096];
            snprintf(path, sizeof path, "%s/%s", argv[i], entry->d_name);
            if (entry->d_name[0] != '.')
                count += run(path);
        }
        closedir(d);
    }
    printf("%lu inputs\n", count);
    return count == 0;
}
