import { describe, expect, it } from 'vitest'
import { childEnvironment, Environment } from '../../../src/common/environment.ts'

describe('the environment', () => {
  it('is read by type: text, integers, bytes, milliseconds and words in any case', () => {
    const environment = new Environment({
      KVIDX_DATA_PORT: '7400',
      KVIDX_MMAP_SIZE: '1Gi',
      KVIDX_BUSY_TIMEOUT: '30s',
      KVIDX_SYNC_MODE: 'full',
      KVIDX_CONFIG: '/etc/kvidx/config.json',
      KVIDX_HOST: '',
    })
    expect(environment.read('KVIDX_DATA_PORT')).toBe(7400)
    expect(environment.read('KVIDX_MMAP_SIZE')).toBe(1_073_741_824)
    expect(environment.read('KVIDX_BUSY_TIMEOUT')).toBe(30_000)
    expect(environment.read('KVIDX_SYNC_MODE')).toBe('Full')
    expect(environment.read('KVIDX_CONFIG')).toBe('/etc/kvidx/config.json')
    expect(environment.read('KVIDX_HOST')).toBeUndefined()
    expect(environment.read('KVIDX_OPS_PORT')).toBeUndefined()
  })

  it.each([
    ['KVIDX_DATA_PORT', '65536', 'an integer from 0 to 65535'],
    ['KVIDX_DATA_PORT', '7400x', 'an integer'],
    ['KVIDX_SYNC_MODE', 'fast', 'one of Full, Normal, Off'],
    ['KVIDX_MMAP_SIZE', '1GB', 'a quantity'],
    ['KVIDX_BUSY_TIMEOUT', '30', 'a duration with units'],
  ] as const)('refuses %s=%s, naming variable, value and what is allowed', (name, value, allowed) => {
    const environment = new Environment({ [name]: value })
    expect(() => environment.read(name)).toThrow(`${name}: '${value}' is not allowed; it must be ${allowed}`)
  })

  it('finds misspelt variables of ours, and no others', () => {
    expect(new Environment({ KVIDX_CACHESIZE: '1', PATH: '/bin', KVIDX_HOST: 'x' }).unknown).toEqual([
      'KVIDX_CACHESIZE',
    ])
  })

  it('is passed on to child processes with changes', () => {
    const child = childEnvironment({ KVIDX_ADDED: '1', PATH: undefined })
    expect(child.KVIDX_ADDED).toBe('1')
    expect('PATH' in child).toBe(false)
  })
})
