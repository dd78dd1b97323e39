/** Packages with compiled parts: the bundle leaves them out, the image carries them as they are. */
export const NATIVE_PACKAGES = ['better-sqlite3', 'lmdb', 'koffi', '@node-rs/crc32', '@node-rs/xxhash'] as const
