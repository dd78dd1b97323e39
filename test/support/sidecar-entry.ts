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
void sidecar.died.then(() => process.exit(1))
const data = await sidecar.serving
process.stdout.write(`${JSON.stringify({ data, operations: sidecar.opsAddress })}\n`)
