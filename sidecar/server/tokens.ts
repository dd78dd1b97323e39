import { createHash, timingSafeEqual } from 'node:crypto'
import { join } from 'node:path'
import type { Clock } from '../../src/common/clock.ts'
import { KvidxError } from '../../src/common/errors.ts'
import type { Rights } from './endpoint.ts'
import type { Log } from './log.ts'
import { MountedFiles } from './mounted-file.ts'

const NAMES = ['read', 'write', 'admin'] as const
/** The one in use and the one that takes its place. */
const MOST_TOKENS = 2
const SHORTEST_TOKEN = 16

interface Known {
  readonly rights: Rights
  readonly hash: Buffer
}

/** The tokens of one database, read from the files `read`, `write` and `admin` of a mounted Secret: one or two tokens each, one a line. */
export class TokenStore {
  readonly #files: MountedFiles
  #known: readonly Known[] = []

  private constructor(directory: string, log: Log) {
    const paths = NAMES.map(name => join(directory, name))
    this.#files = new MountedFiles(paths, contents => this.#load(directory, contents), log)
  }

  /** Errors: invalid_parameter when no file has a token, or one is not allowed. */
  static async open(directory: string, log: Log): Promise<TokenStore> {
    const store = new TokenStore(directory, log)
    await store.#files.open()
    return store
  }

  watch(clock: Clock, interval: number): void {
    this.#files.watch(clock, interval)
  }

  /** Looks at the files now. */
  look(): Promise<void> {
    return this.#files.look()
  }

  stop(): void {
    this.#files.stop()
  }

  /**
   * The rights of a token, `none` for an unknown one. Hashes have one length, so comparing takes the same time whatever the token is; all are
   * compared, so the time does not tell which one it was.
   */
  rightsOf(token: string): Rights {
    const hash = digest(token)
    let found: Rights = 'none'
    for (const known of this.#known) if (timingSafeEqual(known.hash, hash)) found = known.rights
    return found
  }

  #load(directory: string, contents: ReadonlyMap<string, Buffer>): void {
    const known: Known[] = []
    for (const name of NAMES) {
      const path = join(directory, name)
      const tokens = (contents.get(path)?.toString('utf8') ?? '').split(/\s+/).filter(token => token !== '')
      if (tokens.length > MOST_TOKENS)
        throw new KvidxError(
          'invalid_parameter',
          `${path} has ${tokens.length} tokens (allowed: one or two, one a line)`,
        )
      for (const token of tokens) {
        if (token.length < SHORTEST_TOKEN || !/^[\x21-\x7e]+$/.test(token))
          throw new KvidxError(
            'invalid_parameter',
            `${path} has a token that is not allowed (allowed: at least ${SHORTEST_TOKEN} visible ASCII characters)`,
          )
        known.push({ rights: name, hash: digest(token) })
      }
    }
    if (known.length === 0)
      throw new KvidxError('invalid_parameter', `${directory} has no token (expected: files ${NAMES.join(', ')})`)
    this.#known = known
  }
}

function digest(token: string): Buffer {
  return createHash('sha256').update(token).digest()
}
