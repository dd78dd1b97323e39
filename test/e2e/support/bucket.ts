import { mkdirSync } from 'node:fs'
import { join } from 'node:path'
import { afterAll, beforeAll } from 'vitest'
import { buildVersitygw, type RunningS3, startVersitygw } from '../../servers/versitygw.ts'
import { apply } from './kubectl.ts'

/** Address of the test cluster's bridge: pods reach what the host listens on there. */
const BRIDGE = '10.89.0.1'
export const SECRET = 'bucket'

/** A real S3 server for this test file, with one bucket, and the Secret for it in the namespace. Call it after testNamespace. */
export class Bucket {
  readonly name: string
  #server: RunningS3 | undefined

  constructor(namespace: string) {
    this.name = `kvidx-${namespace}`
    beforeAll(async () => {
      this.#server = await startVersitygw(buildVersitygw(), { host: BRIDGE })
      mkdirSync(join(this.#server.directory, this.name))
      await this.putSecret(namespace)
    }, 600_000)
    afterAll(() => this.#server?.stop())
  }

  get server(): RunningS3 {
    if (!this.#server) throw new Error('the S3 server does not run')
    return this.#server
  }

  async putSecret(namespace: string): Promise<void> {
    const { accessKeyId, secretAccessKey } = this.server
    const stringData = { accessKeyId, secretAccessKey }
    await apply([{ apiVersion: 'v1', kind: 'Secret', metadata: { name: SECRET, namespace }, stringData }])
  }

  /** `s3` of a destination. */
  get place(): object {
    return { bucket: this.name, endpoint: this.server.endpoint, credentialsSecretRef: { name: SECRET } }
  }

  /** For `--store`. */
  get url(): string {
    return `s3://${this.name}?endpoint=${this.server.endpoint}&region=us-east-1`
  }

  /** Nobody answers until `back`. */
  async away(): Promise<() => Promise<void>> {
    const { directory, endpoint } = this.server
    const port = Number(new URL(endpoint).port)
    process.kill(this.server.pid, 'SIGKILL')
    return async () => {
      this.#server = await startVersitygw(buildVersitygw(), { host: BRIDGE, port, directory })
    }
  }
}
