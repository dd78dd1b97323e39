import { processIo } from './io.ts'
import { runCli } from './program.ts'

// `kvidx scan | head`: whoever reads has seen enough
process.stdout.on('error', error => {
  if ((error as NodeJS.ErrnoException).code === 'EPIPE') process.exit(0)
  throw error
})

process.exitCode = await runCli(process.argv.slice(2), processIo())
