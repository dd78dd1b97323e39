import { describe, expect, it } from 'vitest'
import { createLog, type LogLevel } from '../../../src/common/log.ts'

function capture(level: LogLevel = 'Info') {
  const lines: Record<string, unknown>[] = []
  const log = createLog({
    name: 'test',
    level,
    bindings: { namespace: 'shop', database: 'orders' },
    destination: { write: (line: string) => void lines.push(JSON.parse(line)) },
  })
  return { log, lines }
}

describe('the log', () => {
  it('writes one JSON object a line with time, level, name and bindings', () => {
    const { log, lines } = capture()
    log.logger.info({ position: '1.5' }, 'database is ready')
    expect(lines).toHaveLength(1)
    expect(lines[0]).toMatchObject({
      level: 'info',
      name: 'test',
      namespace: 'shop',
      database: 'orders',
      position: '1.5',
      msg: 'database is ready',
    })
    expect(lines[0]?.time).toMatch(/^\d{4}-\d\d-\d\dT/)
  })

  it('cuts out secrets and record data wherever they stand', () => {
    const { log, lines } = capture()
    log.logger.info({
      token: 'T0PSECRET',
      headers: { authorization: 'Bearer T0PSECRET' },
      request: { headers: { authorization: 'Bearer T0PSECRET' } },
      s3: { credentials: { secretAccessKey: 'T0PSECRET' } },
      record: { key: '1', data: 'T0PSECRET' },
    })
    log.logger.child({ token: 'T0PSECRET' }).info('child')
    expect(JSON.stringify(lines)).not.toContain('T0PSECRET')
    expect(lines[0]).toMatchObject({ token: '[redacted]', record: { key: '1', data: '[redacted]' } })
  })

  it('writes errors with their code, message and cause', () => {
    const { log, lines } = capture()
    log.logger.error({ err: new Error('outer', { cause: new Error('inner') }) }, 'failed')
    expect(JSON.stringify(lines[0])).toContain('inner')
  })

  it('changes its level while it runs, for children made before and after', () => {
    const { log, lines } = capture()
    const before = log.logger.child({ part: 'before' })
    const grandchild = before.child({ part: 'grandchild' })
    before.debug('unheard')
    log.setLevel('Debug')
    before.debug('heard')
    grandchild.debug('heard')
    log.logger.child({ part: 'after' }).debug('heard')
    log.setLevel('Error')
    before.warn('unheard')
    grandchild.warn('unheard')
    expect(lines.map(line => [line.part, line.msg])).toEqual([
      ['before', 'heard'],
      ['grandchild', 'heard'],
      ['after', 'heard'],
    ])
  })
})
