/*
 * Setpiece storage plugin ABI, version 0.1, for C11 and C++17.
 *
 * A plugin is a shared library that exports one function, setpiece_sbt_query, which gives the table of its verbs. This
 * header is the contract between the two; docs/ABI.md explains it with examples. Version 0.x may still change: host and
 * plugin must agree on major and, while the major is 0, on minor. Once released as 1.0 a table never changes; the ABI
 * grows by extensions with names of their own, found by the verb `extension`.
 *
 * RULES FOR EVERYTHING
 *
 *  Objects    have names and bytes, are written once from front to back, and never change. Nothing is ever
 *             overwritten. An object is visible from the moment its `finish` begins to return SBT_OK, whole; until then,
 *             and after `abort` or a crash, it does not exist, for any verb and any session.
 *  Names      have 1 to SBT_NAME_MAX bytes: parts of [A-Za-z0-9._-] that do not begin with a dot, joined by '/'. Hosts
 *             pass no others; plugins report no others. They must come back exactly as given, capitals included. A host does not use
 *             a name that is also the beginning of another one up to a '/' ("a" and "a/b").
 *  Sessions   A session and what was opened through it is used by one thread at a time, but not always the same.
 *             Different sessions may be used at the same moment, also by several processes. At most one writer or
 *             reader is open per session; while it is, nothing else is done with the session, except that its locks may
 *             be released. Writers, readers and locks are ended before their session is closed.
 *  Memory     Whoever made it frees it. What is passed to a verb is valid during the call only. Handles are the
 *             plugin's; hosts never look into them.
 *  Results    SBT_OK or a negative SBT_ERR_ code of the table below, and on failure the error buffer filled in: the same
 *             code, retryable, native, and a text that says what failed, where, and what to do about it, without
 *             secrets. On failure nothing else is written to. A verb may return any code besides those it names.
 *  Poison     After a verb of a writer or reader failed, hosts only abort or close it. After SBT_ERR_PANIC on a
 *             session, hosts only close it. Plugins answer anything else with SBT_ERR_POISONED.
 *  Unwinding  No exception and no panic may leave a verb.
 *  Process    A plugin reads no environment variable, keeps no state outside its sessions but the medium itself,
 *             changes neither directory, locale, umask, signals nor standard streams, prints nothing, and starts no
 *             thread or process that outlives its sessions. It is never unloaded.
 *  Time       Verbs may block; they must not fail because the host took long between two calls.
 */
#ifndef SETPIECE_SBT_H
#define SETPIECE_SBT_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define SBT_ABI_MAJOR 0
#define SBT_ABI_MINOR 1
#define SBT_NAME_MAX 240
/* Hosts offer at least this much room for the text of an error; text that does not fit is cut at a character. */
#define SBT_TEXT_MIN 64

/* Codes. Never renumbered, never reused. */
#define SBT_OK 0
#define SBT_ERR_USAGE (-1)        /* wrong argument, wrong order of calls, unknown parameter */
#define SBT_ERR_NOT_FOUND (-2)    /* no such object, or no such place to open a session on */
#define SBT_ERR_EXISTS (-3)       /* there is an object of that name */
#define SBT_ERR_FULL (-4)         /* no room, quota reached, or object too large */
#define SBT_ERR_IO (-5)           /* the device or the operating system failed */
#define SBT_ERR_ACCESS (-6)       /* not permitted: owner, mode, credentials */
#define SBT_ERR_LOCKED (-7)       /* another one holds the lock */
#define SBT_ERR_UNSUPPORTED (-8)  /* the plugin does not do that */
#define SBT_ERR_RETENTION (-9)    /* the object is protected against removal */
#define SBT_ERR_DAMAGED (-10)     /* the medium itself says that what it stored is damaged */
#define SBT_ERR_UNREACHABLE (-11) /* the device or the server does not answer */
#define SBT_ERR_OPERATOR (-12)    /* a human must do something first; the text says what */
#define SBT_ERR_STOPPED (-13)     /* the callback of `list` asked to stop */
#define SBT_ERR_POISONED (-14)    /* an earlier call on this handle failed */
#define SBT_ERR_PANIC (-15)       /* the plugin's code panicked or threw */
#define SBT_ERR_ABI (-16)         /* host and plugin are of different versions of the ABI */
#define SBT_ERR_INTERNAL (-17)    /* a defect in the plugin */

/* Capabilities of a session. Hosts ignore bits that they do not know. */
#define SBT_CAP_LIST UINT64_C(1)                /* `list` works */
#define SBT_CAP_RANGED_READ UINT64_C(2)         /* `open` at any offset costs little */
#define SBT_CAP_SEQUENTIAL_ONLY UINT64_C(4)     /* one object at a time, best read in the order written */
#define SBT_CAP_ATOMIC_PUBLISH UINT64_C(8)      /* objects appear at once and whole, also after a crash or power failure */
#define SBT_CAP_CONDITIONAL_CREATE UINT64_C(16) /* of two sessions that create one name at the same time one fails */
#define SBT_CAP_RETENTION_LOCK UINT64_C(32)     /* objects can be protected against removal */
#define SBT_CAP_LOCKS UINT64_C(64)              /* the extension setpiece.lock/1 works in this session */

/* Bits of sbt_info.flags. */
#define SBT_INFO_CREATED 1 /* created_us is known */

/* Modes of a lock. */
#define SBT_LOCK_SHARED 1
#define SBT_LOCK_EXCLUSIVE 2

/* Bytes with a length; text is UTF-8. Not terminated. ptr may be NULL when len is 0. */
typedef struct sbt_str {
    const char *ptr;
    uint64_t len;
} sbt_str;

typedef struct sbt_pair {
    sbt_str key;
    sbt_str value; /* may be a secret: never log it */
} sbt_pair;

/* The caller owns it and sets size, text_cap and text; the plugin sets the rest when a verb fails. Never NULL. */
typedef struct sbt_error {
    uint32_t size;
    int32_t code;       /* what the verb returns */
    uint32_t retryable; /* 1 when the same call may succeed when tried again, else 0 */
    int32_t native;     /* the number of the operating system or the vendor, or 0 */
    uint32_t text_cap;
    uint32_t text_len; /* at most text_cap */
    char *text;        /* UTF-8, not terminated */
} sbt_error;

/* What a session is opened with. An unknown key must be refused with SBT_ERR_USAGE, and so must one given twice. */
typedef struct sbt_params {
    uint32_t size;
    uint32_t flags;   /* 0 */
    sbt_str location; /* a directory, a bucket, a device: the plugin's own words; may be empty */
    sbt_str parms;    /* the PARMS string as the user gave it; may be empty. Ours: key=value,key=value */
    const sbt_pair *pairs;
    uint64_t pair_count;
} sbt_params;

/* What a session tells of itself. The caller sets size, the plugin the rest. */
typedef struct sbt_session_info {
    uint32_t size;
    uint32_t flags; /* 0 */
    uint64_t capabilities;
    uint64_t max_object; /* longest object in bytes, 0: no limit */
    uint64_t best_write; /* best size of a write in bytes, 0: any */
} sbt_session_info;

/* What is known of an object. The caller sets size, the plugin the rest. */
typedef struct sbt_info {
    uint32_t size;
    uint32_t flags;
    uint64_t len;
    int64_t created_us; /* microseconds since 1970-01-01T00:00:00Z at which it was finished */
} sbt_info;

typedef struct sbt_session sbt_session;
typedef struct sbt_writer sbt_writer;
typedef struct sbt_reader sbt_reader;
typedef struct sbt_lock sbt_lock;

/* Called by `list` for each object, on the calling thread. Anything but 0 ends the list. Must not call the plugin. */
typedef int32_t (*sbt_list_fn)(void *context, sbt_str name, const sbt_info *info);
/* Called by `command` with its answer, in one or several parts, on the calling thread. Must not call the plugin. */
typedef void (*sbt_text_fn)(void *context, sbt_str text);

/* The first eight bytes of every table, in every version. */
typedef struct sbt_head {
    uint32_t size; /* of the whole table */
    uint16_t abi_major;
    uint16_t abi_minor;
} sbt_head;

/* The table. Constant, and valid as long as the process. No function may be NULL. */
typedef struct sbt_plugin {
    sbt_head head;
    uint64_t flags; /* 0 */
    sbt_str name;   /* at most 1024 bytes each */
    sbt_str version;
    sbt_str description;

    /* Opens a session and tells what it can do.
     * Atomic: no handle on failure. Idempotent: no. Thread: any, several at once. Owner: the host closes the session.
     * Errors: USAGE for parameters that are missing, unknown or make no sense; NOT_FOUND when the place is not there. */
    int32_t (*open_session)(const sbt_params *params, sbt_session_info *info, sbt_session **out, sbt_error *error);

    /* Closes a session. The handle is gone, also on failure.
     * Order: after its writer, reader and locks have ended. A plugin that is called too early must not crash, and must
     * leave nothing visible of an unfinished object. */
    int32_t (*close_session)(sbt_session *session, sbt_error *error);

    /* Begins an object.
     * Atomic: yes, nothing is visible. Idempotent: no. Owner: the host finishes or aborts the writer.
     * Errors: EXISTS when the name is taken (a plugin that cannot know yet says so in finish); USAGE for a bad name or
     * when a writer or reader is open; FULL. */
    int32_t (*create)(sbt_session *session, sbt_str name, sbt_writer **out, sbt_error *error);

    /* Appends all of len bytes, or fails. len may be 0; bytes may then be NULL. The bytes are the host's again after it.
     * Atomic: no; after a failure the writer can only be aborted. Errors: FULL, IO. */
    int32_t (*write)(sbt_writer *writer, const uint8_t *bytes, uint64_t len, sbt_error *error);

    /* Makes the object durable, then visible. The handle is gone, also on failure.
     * Atomic: yes where SBT_CAP_ATOMIC_PUBLISH is told. Idempotent: no. Tells the object's length and time in info.
     * After a failure nothing is visible; only after SBT_ERR_UNREACHABLE the object may be there, whole, and the host
     * asks `info`. Errors: EXISTS when the name has been taken meanwhile: what is there stays as it is; FULL, IO. */
    int32_t (*finish)(sbt_writer *writer, sbt_info *info, sbt_error *error);

    /* Gives an object up; nothing of it remains. The handle is gone, also on failure. */
    int32_t (*abort)(sbt_writer *writer, sbt_error *error);

    /* Opens an object to be read from offset on. An offset at or behind the end is no error: there is nothing to read.
     * Idempotent: yes. Owner: the host closes the reader. An object that is removed while it is read either reads on
     * or fails; it never reads as something else.
     * Errors: NOT_FOUND; USAGE when a writer or reader is open; OPERATOR when a volume must be mounted. */
    int32_t (*open)(sbt_session *session, sbt_str name, uint64_t offset, sbt_reader **out, sbt_error *error);

    /* Reads on, up to cap bytes (1 or more), and says in got how many. 0 is the end, now and in every later call; before the
     * end it is never 0. Bytes of into behind got may have been changed.
     * Atomic: no; after a failure the reader can only be closed. Errors: IO, DAMAGED. */
    int32_t (*read)(sbt_reader *reader, uint8_t *into, uint64_t cap, uint64_t *got, sbt_error *error);

    /* Closes a reader. The handle is gone, also on failure. */
    int32_t (*close_reader)(sbt_reader *reader, sbt_error *error);

    /* Tells length and time of an object. Idempotent: yes. Errors: NOT_FOUND. */
    int32_t (*info)(sbt_session *session, sbt_str name, sbt_info *info, sbt_error *error);

    /* Calls each for every object whose name begins with prefix, byte for byte (it may end within a part, or with a '/');
     * an empty prefix means all. In any order, each object once. Objects that come or go meanwhile may be left out.
     * What is on the medium under a name that this ABI does not allow is passed over.
     * Idempotent: yes. Errors: STOPPED when each asked for it; UNSUPPORTED without SBT_CAP_LIST. */
    int32_t (*list)(sbt_session *session, sbt_str prefix, sbt_list_fn each, void *context, sbt_error *error);

    /* Removes an object, durably. Succeeds when there is none.
     * Atomic: yes. Idempotent: yes. Errors: RETENTION when it is protected. */
    int32_t (*remove)(sbt_session *session, sbt_str name, sbt_error *error);

    /* Does something of the plugin's own. answer may be NULL.
     * Errors: UNSUPPORTED for a command that the plugin does not know. */
    int32_t (*command)(sbt_session *session, sbt_str command, sbt_str argument, sbt_text_fn answer, void *context,
                       sbt_error *error);

    /* Finds the table of an extension by its name; NULL when the plugin has none such. Thread: any. */
    const void *(*extension)(sbt_str name);
} sbt_plugin;

/* Extension "setpiece.lock/1": locks between writers, so that two of them do not do the same work. */
#define SBT_LOCK_V1 "setpiece.lock/1"

typedef struct sbt_lock_v1 {
    sbt_head head; /* the version of the ABI, as in sbt_plugin */

    /* Takes a lock without waiting. Names of locks are like names of objects but have nothing to do with objects, and are
     * never listed. A lock is between handles: two sessions of one process exclude each other too. It vanishes with the
     * process that holds it.
     * Atomic: yes. Idempotent: no. Owner: the host unlocks before it closes the session.
     * Errors: LOCKED when another one holds it in a mode that does not fit (exclusive fits with none); USAGE. */
    int32_t (*lock)(sbt_session *session, sbt_str name, uint32_t mode, sbt_lock **out, sbt_error *error);

    /* Releases a lock. The handle is gone, also on failure. */
    int32_t (*unlock)(sbt_lock *lock, sbt_error *error);
} sbt_lock_v1;

/* The one exported symbol. Sets *out to the plugin's table in any case, so that a host of another version can name it, and
 * returns SBT_OK when the versions fit or SBT_ERR_ABI. Thread: any, several at once, any number of times. */
#define SBT_QUERY_SYMBOL "setpiece_sbt_query"
typedef int32_t (*sbt_query_fn)(uint32_t host_major, uint32_t host_minor, const sbt_plugin **out);
#if defined(__GNUC__)
__attribute__((visibility("default")))
#endif
int32_t setpiece_sbt_query(uint32_t host_major, uint32_t host_minor, const sbt_plugin **out);

#ifdef __cplusplus
}
#define SBT_ASSERT(what) static_assert(what, #what)
#else
#define SBT_ASSERT(what) _Static_assert(what, #what)
#endif

/* The layout on every 64-bit platform. */
#if UINTPTR_MAX == UINT64_MAX
SBT_ASSERT(sizeof(sbt_str) == 16 && offsetof(sbt_str, len) == 8);
SBT_ASSERT(sizeof(sbt_pair) == 32 && offsetof(sbt_pair, value) == 16);
SBT_ASSERT(sizeof(sbt_error) == 32 && offsetof(sbt_error, text) == 24);
SBT_ASSERT(sizeof(sbt_params) == 56 && offsetof(sbt_params, pair_count) == 48);
SBT_ASSERT(sizeof(sbt_session_info) == 32 && offsetof(sbt_session_info, best_write) == 24);
SBT_ASSERT(sizeof(sbt_info) == 24 && offsetof(sbt_info, created_us) == 16);
SBT_ASSERT(sizeof(sbt_head) == 8 && offsetof(sbt_head, abi_minor) == 6);
SBT_ASSERT(sizeof(sbt_plugin) == 176 && offsetof(sbt_plugin, open_session) == 64);
SBT_ASSERT(offsetof(sbt_plugin, list) == 144 && offsetof(sbt_plugin, extension) == 168);
SBT_ASSERT(sizeof(sbt_lock_v1) == 24 && offsetof(sbt_lock_v1, unlock) == 16);
#endif

#endif
