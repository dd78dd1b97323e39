import type { BaseLogger } from 'pino'

/** The part of a pino logger that the servers use. */
export type Log = Pick<BaseLogger, 'debug' | 'info' | 'warn' | 'error'>
