import { startSidecar } from '../../sidecar/main.ts'

const [configFile = '', dataDirectory = ''] = process.argv.slice(2)
const sidecar = await startSidecar({
  configFile,
  dataDirectory,
  host: '127.0.0.1',
  opsHost: '127.0.0.1',
  dataPort: 0,
  opsPort: 0,
  node: 'test',
  pod: 'test',
})
process.on('SIGTERM', () => void sidecar.stop())
// as the command does, with more time for the test to read answers
void sidecar.database.died.then(() => setTimeout(() => process.exit(1), 1000))
const data = await sidecar.serving
process.stdout.write(`${JSON.stringify({ data, operations: sidecar.opsAddress })}\n`)
