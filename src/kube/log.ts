import type { BaseLogger } from 'pino'

/** The part of a pino logger that the runtime uses. */
export type RuntimeLog = Pick<BaseLogger, 'debug' | 'info' | 'warn' | 'error'>

/** Says nothing. */
export const silentLog: RuntimeLog = { debug() {}, info() {}, warn() {}, error() {} }
