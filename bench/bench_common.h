/* What the load generator and the limit server share: endings, clocks, options. */

#ifndef BENCH_COMMON_H
#define BENCH_COMMON_H

#include <errno.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>

/* End with one line that the program that started this one understands. The text has no quotes. */
__attribute__((noreturn, format(printf, 1, 2))) static void fail(const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    printf("{\"wrong\": \"");
    vprintf(format, arguments);
    printf("\"}\n");
    va_end(arguments);
    fflush(stdout);
    exit(1);
}

static void *allocate(size_t size)
{
    void *memory = malloc(size ? size : 1);
    if (!memory)
        fail("out of memory");
    return memory;
}

static int64_t __attribute__((unused)) now_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

/* As many descriptors as the system lets us have. */
static void raise_descriptor_limit(void)
{
    struct rlimit limit;
    if (getrlimit(RLIMIT_NOFILE, &limit) == 0) {
        limit.rlim_cur = limit.rlim_max;
        setrlimit(RLIMIT_NOFILE, &limit);
    }
}

static uint64_t big_endian(const uint8_t *bytes, int count)
{
    uint64_t value = 0;
    for (int i = 0; i < count; i++)
        value = value << 8 | bytes[i];
    return value;
}

/* Write the header of a frame (RFC 6455 s5.2) without a masking key; return its length. */
static size_t put_header(uint8_t *to, uint8_t first, uint8_t mask_bit, uint64_t length)
{
    int extended = length < 126 ? 0 : length < 65536 ? 2 : 8;
    to[0] = first;
    to[1] = mask_bit | (extended == 0 ? (uint8_t)length : extended == 2 ? 126 : 127);
    for (int i = 0; i < extended; i++)
        to[2 + i] = (uint8_t)(length >> 8 * (extended - 1 - i));
    return 2 + (size_t)extended;
}

#endif
