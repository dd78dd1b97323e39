import type { Command } from 'commander'
import type { Io } from './io.ts'

/** One command of `kvidx`: what the list of commands says, and where it lives. */
export interface CommandEntry {
  readonly group: 'Data' | 'Operation' | 'Programs'
  /** One line. */
  readonly summary: string
  /** Loaded only when it is called, so that each command starts as quickly as it can. */
  readonly load: (io: Io) => Promise<Command>
}

type TaskVerb = import('./task.ts').TaskVerb
const task =
  (name: TaskVerb) =>
  async (io: Io): Promise<Command> =>
    (await import('./task.ts')).taskCommand(name, io)

/** To add a command: one file beside this one, one entry here. */
export const COMMANDS: Readonly<Record<string, CommandEntry>> = {
  get: {
    group: 'Data',
    summary: 'print a record',
    load: async io => (await import('./get.ts')).getCommand(io),
  },
  put: {
    group: 'Data',
    summary: 'write a record',
    load: async io => (await import('./put.ts')).putCommand(io),
  },
  delete: {
    group: 'Data',
    summary: 'remove a record or a range',
    load: async io => (await import('./delete.ts')).deleteCommand(io),
  },
  scan: {
    group: 'Data',
    summary: 'list the records of a range',
    load: async io => (await import('./scan.ts')).scanCommand(io),
  },
  count: {
    group: 'Data',
    summary: 'count the records of a range',
    load: async io => (await import('./count.ts')).countCommand(io),
  },
  stats: {
    group: 'Data',
    summary: 'show the figures of a database',
    load: async io => (await import('./stats.ts')).statsCommand(io),
  },
  import: {
    group: 'Data',
    summary: 'import a file, or a database of kvidxkit',
    load: async io => (await import('./import.ts')).importCommand(io),
  },
  export: {
    group: 'Data',
    summary: 'export a range to a file',
    load: async io => (await import('./export.ts')).exportCommand(io),
  },
  changes: {
    group: 'Data',
    summary: 'print or follow the changes',
    load: async io => (await import('./changes.ts')).changesCommand(io),
  },
  checkpoint: { group: 'Operation', summary: 'move the write-ahead log into the file', load: task('checkpoint') },
  vacuum: { group: 'Operation', summary: 'give unused space back', load: task('vacuum') },
  compact: { group: 'Operation', summary: 'rewrite the files without gaps', load: task('compact') },
  expire: { group: 'Operation', summary: 'remove expired records now', load: task('expire') },
  check: { group: 'Operation', summary: 'check engine, count and digest', load: task('check') },
  status: {
    group: 'Operation',
    summary: 'one look: does it serve, what is wrong, backups, room',
    load: async io => (await import('./status.ts')).statusCommand(io),
  },
  'health-check': {
    group: 'Operation',
    summary: 'ask for health, for probes',
    load: async io => (await import('./health-check.ts')).healthCheckCommand(io),
  },
  backup: {
    group: 'Operation',
    summary: 'make, list, verify, restore and prune backups',
    load: async io => (await import('./backup.ts')).backupCommand(io),
  },
  restore: {
    group: 'Operation',
    summary: 'restore a running database in place, or undo that',
    load: async io => (await import('./restore.ts')).restoreCommand(io),
  },
  quarantine: {
    group: 'Operation',
    summary: 'list or remove what was put out of the way',
    load: async io => (await import('./quarantine.ts')).quarantineCommand(io),
  },
  salvage: {
    group: 'Operation',
    summary: 'keep what can be read of a damaged SQLite database',
    load: async io => (await import('./salvage.ts')).salvageCommand(io),
  },
  plan: {
    group: 'Operation',
    summary: 'print what a changed manifest will do on Kubernetes',
    load: async io => (await import('./plan.ts')).planCommand(io),
  },
  run: {
    group: 'Programs',
    summary: 'run the databases of a manifest on this machine',
    load: async () => (await import('./run.ts')).runCommand(),
  },
  sidecar: {
    group: 'Programs',
    summary: 'run the engine of one database',
    load: async () => (await import('./sidecar.ts')).sidecarCommand(),
  },
  operator: {
    group: 'Programs',
    summary: 'run the Kubernetes operator',
    load: async () => (await import('./operator.ts')).operatorCommand(),
  },
  job: {
    group: 'Programs',
    summary: 'backup, verify, prune or restore, as a job',
    load: async io => (await import('./job.ts')).jobCommand(io),
  },
  'pod-job': {
    group: 'Programs',
    summary: 'the work of a backup pod on Kubernetes',
    load: async () => (await import('./pod-job.ts')).podJobCommand(),
  },
  completion: {
    group: 'Programs',
    summary: 'print completion for bash and zsh',
    load: async io => (await import('./completion.ts')).completionCommand(io, COMMANDS),
  },
}
