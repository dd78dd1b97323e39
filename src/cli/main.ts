import { EXIT } from './exit-code.ts'
import { processIo } from './io.ts'
import { runCli } from './program.ts'

// `kvidx scan | head`: whoever reads has seen enough
process.stdout.on('error', error => {
  if ((error as NodeJS.ErrnoException).code === 'EPIPE') process.exit(0)
  // a full disk behind `> file` is the caller's to mend: words, not a trace of ours
  process.stderr.write(`kvidx: the output cannot be written: ${error.message}\n`)
  process.exit(EXIT.failed)
})

process.exitCode = await runCli(process.argv.slice(2), processIo())
