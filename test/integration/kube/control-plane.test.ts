import { execFile } from 'node:child_process'
import { promisify } from 'node:util'
import { describe, expect, inject, test } from 'vitest'

const { kubeconfig = '', kubectl = '', missing } = inject('controlPlane')

describe.skipIf(missing)('the API server for tests', () => {
  test('is a real one that runs controllers', async () => {
    const { stdout } = await promisify(execFile)(kubectl, ['--kubeconfig', kubeconfig, 'get', '--raw', '/version'])
    expect(JSON.parse(stdout)).toMatchObject({ major: '1', minor: '34' })
  })
})
