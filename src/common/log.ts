import { type DestinationStream, type LevelWithSilent, type Logger, pino, stdTimeFunctions } from 'pino'

export type { Logger } from 'pino'

/** Levels by their name in `monitoring.logLevel`, upper-case as in the manifest, and pino's own. */
export const LOG_LEVELS = ['Trace', 'Debug', 'Info', 'Warn', 'Error'] as const
export type LogLevel = (typeof LOG_LEVELS)[number]

export interface LogOptions {
  /** `operator`, `sidecar`, `job`, … : stands in every line. */
  readonly name: string
  readonly level: LogLevel | 'Silent'
  /** Members of every line, such as namespace and database. */
  readonly bindings?: Readonly<Record<string, unknown>>
  /** Default: standard error, so that a command's output stays clean. Tests pass a stream. */
  readonly destination?: DestinationStream
}

/** A logger and all its children under one level that can be changed while the process runs. */
export interface Log {
  readonly logger: Logger
  /** Holds for children made before and after. */
  setLevel(level: LogLevel | 'Silent'): void
}

/** What never appears in a line, wherever it stands: secrets and record data. */
const SECRET_FIELDS = [
  'authorization',
  'Authorization',
  'token',
  'tokens',
  'password',
  'secret',
  'secretKey',
  'secretAccessKey',
  'accessKeyId',
  'sessionToken',
  'encryptionKey',
  'privateKey',
  'cookie',
  'data',
]

/** pino's paths know no "any depth": three levels cover `req.headers.authorization` and everything that we log ourselves. */
const REDACTED = SECRET_FIELDS.flatMap(field => [field, `*.${field}`, `*.*.${field}`])

/** JSON lines with ISO times and level names. Secrets and record data are cut out whatever is logged. */
export function createLog(options: LogOptions): Log {
  const children = new Set<WeakRef<Logger>>()
  const destination = options.destination ?? pino.destination({ dest: 2, sync: true })
  const logger = pino(
    {
      name: options.name,
      level: pinoLevel(options.level),
      base: { ...options.bindings },
      timestamp: stdTimeFunctions.isoTime,
      formatters: { level: label => ({ level: label }) },
      redact: { paths: REDACTED, censor: '[redacted]' },
      onChild: child => {
        for (const reference of children) if (reference.deref() === undefined) children.delete(reference)
        children.add(new WeakRef(child as Logger))
      },
    },
    destination,
  )
  return {
    logger,
    setLevel(level) {
      const next = pinoLevel(level)
      logger.level = next
      for (const reference of children) {
        const child = reference.deref()
        if (child) child.level = next
      }
    },
  }
}

function pinoLevel(level: LogLevel | 'Silent'): LevelWithSilent {
  return level.toLowerCase() as LevelWithSilent
}
