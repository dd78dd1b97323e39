import { join, resolve } from 'node:path'
import { Command } from 'commander'
import { systemClock } from '../common/clock.ts'
import { formatBytes } from '../common/quantity.ts'
import { interruptible } from './interrupt.ts'
import { type Io, write } from './io.ts'
import { stagedProgress } from './progress.ts'
import { fields } from './table.ts'

interface SalvageFlags {
  readonly dataDir: string
  readonly output: string
}

/** `kvidx salvage`: of a damaged SQLite database that no process serves, by the files alone. */
export function salvageCommand(io: Io): Command {
  return new Command('salvage')
    .description(
      'replace a damaged SQLite database by what can still be read of it, while no process serves it; the damaged files go to quarantine',
    )
    .requiredOption('--data-dir <dir>', 'directory of the volume: the one with identity.json')
    .option('--output <format>', 'table or json', 'table')
    .action(async (flags: SalvageFlags) => {
      const { salvageOffline } = await import('../../sidecar/restore/salvage-offline.ts')
      const directory = resolve(flags.dataDir)
      const bar = stagedProgress(io)
      const interrupt = interruptible()
      try {
        const note = await salvageOffline(directory, systemClock, interrupt.signal, ({ stage, records }) =>
          bar.show(stage, records),
        )
        bar.end()
        const report = note.salvage as {
          verdict?: string
          lostRanges?: { count: number }
          doubtful?: { count: number }
        }
        await write(
          io.output,
          flags.output === 'json'
            ? `${JSON.stringify(note)}\n`
            : fields({
                verdict: report.verdict,
                records: note.records,
                'data size': formatBytes(Number(note.dataBytes)),
                lost: note.lost ?? 'unknown: the counters could not be read',
                'damaged key ranges': report.lostRanges?.count,
                'doubtful records': report.doubtful?.count,
                position: note.position,
                digest: note.digest,
                'damaged files': join(directory, 'quarantine', note.quarantine),
                'whole report': join(directory, 'quarantine', note.quarantine, 'note.json'),
              }),
        )
      } finally {
        bar.end()
        interrupt.end()
      }
    })
}
