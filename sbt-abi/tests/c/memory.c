/*
 * A plugin in C that keeps objects in memory: the smallest medium that passes the conformance suite, and the proof that
 * the header is enough to write one. The location is ignored: all sessions of the process see the same objects.
 */
#include "setpiece_sbt.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

typedef struct object {
    struct object *next;
    char name[SBT_NAME_MAX + 1];
    uint8_t *bytes;
    uint64_t len;
    uint32_t refs; /* one for the list, one for each reader */
} object;

static pthread_mutex_t guard = PTHREAD_MUTEX_INITIALIZER;
static object *objects;

struct sbt_session {
    int busy;
};

struct sbt_writer {
    sbt_session *session;
    object *object;
    uint64_t cap;
};

struct sbt_reader {
    sbt_session *session;
    object *object;
    uint64_t at;
};

static uint32_t append(char *to, uint32_t at, uint32_t cap, const char *text, uint64_t len) {
    for (uint64_t i = 0; i < len && at < cap; i++)
        to[at++] = text[i] >= ' ' && text[i] < 127 ? text[i] : '?';
    return at;
}

static int32_t fail(sbt_error *error, int32_t code, const char *what, sbt_str where) {
    error->code = code;
    error->retryable = 0;
    error->native = 0;
    error->text_len = append(error->text, 0, error->text_cap, where.ptr, where.len);
    error->text_len = append(error->text, error->text_len, error->text_cap, ": ", 2);
    error->text_len = append(error->text, error->text_len, error->text_cap, what, strlen(what));
    return code;
}

static sbt_str named(const object *object) {
    return (sbt_str){object->name, strlen(object->name)};
}

static int is_name(sbt_str name) {
    char before = '/';
    if (name.len == 0 || name.len > SBT_NAME_MAX)
        return 0;
    for (uint64_t i = 0; i < name.len; i++) {
        char c = name.ptr[i];
        int plain = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_' || c == '-';
        if (!plain && c != '.' && c != '/')
            return 0;
        if (before == '/' && (c == '.' || c == '/'))
            return 0;
        before = c;
    }
    return before != '/';
}

/* The place of the pointer to an object, or of the NULL at the end. With the guard held. */
static object **find(sbt_str name) {
    object **at = &objects;
    while (*at && (strlen((*at)->name) != name.len || memcmp((*at)->name, name.ptr, name.len) != 0))
        at = &(*at)->next;
    return at;
}

static void release(object *object) {
    if (--object->refs == 0) {
        free(object->bytes);
        free(object);
    }
}

static void describe(const object *object, sbt_info *info) {
    info->flags = 0;
    info->len = object->len;
    info->created_us = 0;
}

static int32_t open_session(const sbt_params *params, sbt_session_info *info, sbt_session **out, sbt_error *error) {
    if (params->parms.len > 0)
        return fail(error, SBT_ERR_USAGE, "there are no parameters; leave PARMS empty", params->parms);
    if (params->pair_count > 0)
        return fail(error, SBT_ERR_USAGE, "there are no parameters; leave this one out", params->pairs[0].key);
    sbt_session *session = calloc(1, sizeof *session);
    if (!session)
        return fail(error, SBT_ERR_FULL, "no memory", params->location);
    info->capabilities = SBT_CAP_LIST | SBT_CAP_RANGED_READ | SBT_CAP_CONDITIONAL_CREATE;
    info->flags = 0, info->max_object = 0, info->best_write = 0;
    *out = session;
    return SBT_OK;
}

static int32_t close_session(sbt_session *session, sbt_error *error) {
    (void)error;
    free(session);
    return SBT_OK;
}

static int32_t create(sbt_session *session, sbt_str name, sbt_writer **out, sbt_error *error) {
    if (!is_name(name))
        return fail(error, SBT_ERR_USAGE, "not a name", name);
    if (session->busy)
        return fail(error, SBT_ERR_USAGE, "the session has an open writer or reader", name);
    pthread_mutex_lock(&guard);
    int taken = *find(name) != NULL;
    pthread_mutex_unlock(&guard);
    if (taken)
        return fail(error, SBT_ERR_EXISTS, "the name is taken", name);
    sbt_writer *writer = calloc(1, sizeof *writer);
    object *made = calloc(1, sizeof *made);
    if (!writer || !made)
        return free(writer), free(made), fail(error, SBT_ERR_FULL, "no memory", name);
    memcpy(made->name, name.ptr, name.len);
    made->refs = 1;
    *writer = (sbt_writer){session, made, 0};
    session->busy = 1;
    *out = writer;
    return SBT_OK;
}

static int32_t write_bytes(sbt_writer *writer, const uint8_t *bytes, uint64_t len, sbt_error *error) {
    object *object = writer->object;
    if (len > writer->cap - object->len) {
        uint64_t cap = 2 * writer->cap + len;
        uint8_t *more = cap < len ? NULL : realloc(object->bytes, cap);
        if (!more)
            return fail(error, SBT_ERR_FULL, "no memory", named(object));
        object->bytes = more;
        writer->cap = cap;
    }
    if (len > 0)
        memcpy(object->bytes + object->len, bytes, len);
    object->len += len;
    return SBT_OK;
}

static int32_t finish(sbt_writer *writer, sbt_info *info, sbt_error *error) {
    object *object = writer->object;
    writer->session->busy = 0;
    free(writer);
    pthread_mutex_lock(&guard);
    struct object **at = find(named(object));
    int taken = *at != NULL;
    if (!taken)
        *at = object;
    pthread_mutex_unlock(&guard);
    if (taken) {
        int32_t code = fail(error, SBT_ERR_EXISTS, "the name has been taken", named(object));
        release(object);
        return code;
    }
    describe(object, info);
    return SBT_OK;
}

static int32_t abort_writer(sbt_writer *writer, sbt_error *error) {
    (void)error;
    writer->session->busy = 0;
    release(writer->object);
    free(writer);
    return SBT_OK;
}

static int32_t open_reader(sbt_session *session, sbt_str name, uint64_t offset, sbt_reader **out, sbt_error *error) {
    if (!is_name(name))
        return fail(error, SBT_ERR_USAGE, "not a name", name);
    if (session->busy)
        return fail(error, SBT_ERR_USAGE, "the session has an open writer or reader", name);
    sbt_reader *reader = calloc(1, sizeof *reader);
    if (!reader)
        return fail(error, SBT_ERR_FULL, "no memory", name);
    pthread_mutex_lock(&guard);
    reader->object = *find(name);
    if (reader->object)
        reader->object->refs++;
    pthread_mutex_unlock(&guard);
    if (!reader->object)
        return free(reader), fail(error, SBT_ERR_NOT_FOUND, "no such object", name);
    reader->session = session;
    reader->at = offset;
    session->busy = 1;
    *out = reader;
    return SBT_OK;
}

static int32_t read_bytes(sbt_reader *reader, uint8_t *into, uint64_t cap, uint64_t *got, sbt_error *error) {
    (void)error;
    const object *object = reader->object;
    uint64_t left = reader->at < object->len ? object->len - reader->at : 0;
    *got = left < cap ? left : cap;
    if (*got > 0)
        memcpy(into, object->bytes + reader->at, *got);
    reader->at += *got;
    return SBT_OK;
}

static int32_t close_reader(sbt_reader *reader, sbt_error *error) {
    (void)error;
    reader->session->busy = 0;
    pthread_mutex_lock(&guard);
    release(reader->object);
    pthread_mutex_unlock(&guard);
    free(reader);
    return SBT_OK;
}

static int32_t info(sbt_session *session, sbt_str name, sbt_info *out, sbt_error *error) {
    (void)session;
    if (!is_name(name))
        return fail(error, SBT_ERR_USAGE, "not a name", name);
    pthread_mutex_lock(&guard);
    const object *object = *find(name);
    if (object)
        describe(object, out);
    pthread_mutex_unlock(&guard);
    return object ? SBT_OK : fail(error, SBT_ERR_NOT_FOUND, "no such object", name);
}

static int32_t list(sbt_session *session, sbt_str prefix, sbt_list_fn each, void *context, sbt_error *error) {
    int32_t stop = 0;
    (void)session;
    pthread_mutex_lock(&guard);
    for (const object *at = objects; at && !stop; at = at->next) {
        sbt_info known = {sizeof known, 0, 0, 0};
        describe(at, &known);
        if (strlen(at->name) >= prefix.len && (prefix.len == 0 || memcmp(at->name, prefix.ptr, prefix.len) == 0))
            stop = each(context, named(at), &known);
    }
    pthread_mutex_unlock(&guard);
    return stop ? fail(error, SBT_ERR_STOPPED, "stopped", prefix) : SBT_OK;
}

static int32_t remove_object(sbt_session *session, sbt_str name, sbt_error *error) {
    (void)session;
    if (!is_name(name))
        return fail(error, SBT_ERR_USAGE, "not a name", name);
    pthread_mutex_lock(&guard);
    object **at = find(name);
    object *found = *at;
    if (found) {
        *at = found->next;
        release(found);
    }
    pthread_mutex_unlock(&guard);
    return SBT_OK;
}

static int32_t command(sbt_session *session, sbt_str name, sbt_str argument, sbt_text_fn answer, void *context,
                       sbt_error *error) {
    (void)session, (void)argument, (void)answer, (void)context;
    return fail(error, SBT_ERR_UNSUPPORTED, "no such command", name);
}

static const void *extension(sbt_str name) {
    (void)name;
    return NULL;
}

static const sbt_plugin plugin = {
    .head = {sizeof(sbt_plugin), SBT_ABI_MAJOR, SBT_ABI_MINOR},
    .name = {"c-memory", 8},
    .version = {"1", 1},
    .description = {"objects in memory, in C", 23},
    .open_session = open_session,
    .close_session = close_session,
    .create = create,
    .write = write_bytes,
    .finish = finish,
    .abort = abort_writer,
    .open = open_reader,
    .read = read_bytes,
    .close_reader = close_reader,
    .info = info,
    .list = list,
    .remove = remove_object,
    .command = command,
    .extension = extension,
};

int32_t setpiece_sbt_query(uint32_t host_major, uint32_t host_minor, const sbt_plugin **out) {
    *out = &plugin;
    return host_major == SBT_ABI_MAJOR && host_minor == SBT_ABI_MINOR ? SBT_OK : SBT_ERR_ABI;
}
