/** What engine and jobs write is read by nobody else: the engines themselves make files that everybody may read. */
export const OURS_ALONE = 0o077
