import { setPriority } from 'node:os'

/** Nice value of work that nobody waits for by the millisecond. */
const BACKGROUND = 10

/**
 * Lets the calling thread, and threads that it starts from then on, go after those that answer requests: on Linux the nice value is a thread's own.
 * Where that is not allowed all go on with the same priority.
 */
export function stepBack(): void {
  try {
    setPriority(BACKGROUND)
  } catch {
    // a sandbox may refuse the call, or the process may be lower already
  }
}
