import { describe, expect, test } from 'vitest'
import { messageOf } from '../../../../src/api/v1alpha1/conditions.ts'
import { engineFindings, readiness } from '../../../../src/controllers/database/health.ts'
import type { Probe, ProbeStatus } from '../../../../src/controllers/database/observed.ts'
import { planAll } from '../../../../src/controllers/database/plan.ts'
import {
  claim,
  failing,
  findingsInWords,
  NOW,
  node,
  pod,
  probe,
  REVISION,
  type Scene,
  scene,
  serving,
  unanswered,
  waitingPod,
} from './scene.ts'

function found(input?: Scene, changing = false) {
  const { blueprint, observed } = scene(input)
  const { findings } = planAll(blueprint, observed)
  return [...readiness(blueprint, observed, findings, changing), ...engineFindings(blueprint, observed)]
}

const notReady = (said?: Probe): Scene => ({
  change: observed => {
    observed.pods = [pod({}, 'False')]
    observed.probe = said
  },
})

const saying = (status: Partial<ProbeStatus>): Scene => ({
  change: observed => {
    observed.probe = probe(serving(status))
  },
})

const withPod = (one: ReturnType<typeof pod>): Scene => ({
  change: observed => {
    observed.pods = [one]
    observed.probe = undefined
  },
})

const HEALTHY = ['EngineHealthy=True/Healthy', 'StorageHealthy=True/EnoughSpace']
const refused = (code: string, details: Record<string, unknown>) => notReady(failing(code, details))

const TABLE: readonly (readonly [string, Scene, readonly string[]])[] = [
  ['it serves', {}, ['Ready=True/Ready', ...HEALTHY]],
  ['it serves and is suspended', { spec: { suspend: true } }, ['Ready=True/Suspended', ...HEALTHY]],
  [
    'it is suspended before anything was made',
    {
      spec: { suspend: true },
      change: observed => {
        observed.statefulSet = undefined
        observed.pods = []
        observed.probe = undefined
      },
    },
    ['Ready=False/Suspended'],
  ],
  [
    'there is no StatefulSet',
    {
      change: observed => {
        observed.statefulSet = undefined
      },
    },
    ['Ready=False/Creating', 'Reconciling=True/Creating', ...HEALTHY],
  ],
  [
    'there is no pod',
    {
      change: observed => {
        observed.pods = []
        observed.probe = undefined
      },
    },
    ['Ready=False/Creating', 'Reconciling=True/Creating'],
  ],
  [
    'the first data is being loaded',
    atWork('bootstrapping'),
    ['Ready=False/Bootstrapping', 'Reconciling=True/Bootstrapping', 'StorageHealthy=True/EnoughSpace'],
  ],
  [
    'a damaged database is being mended',
    atWork('repairing'),
    ['Ready=False/Recovering', 'Reconciling=True/Recovering', 'StorageHealthy=True/EnoughSpace'],
  ],
  [
    'restored data is being swapped in',
    atWork('swapping'),
    ['Ready=False/Restoring', 'Reconciling=True/Restoring', 'StorageHealthy=True/EnoughSpace'],
  ],
  ['the pod starts', notReady(), ['Ready=False/Starting', 'Reconciling=True/Starting']],
  [
    'the first data cannot be loaded',
    {
      spec: { bootstrap: { restore: { backup: 'old-daily' } } },
      change: observed => {
        const { status } = failing('store_unreachable')
        const { lineage: _none, ...rest } = status as ProbeStatus
        observed.pods = [pod({}, 'False')]
        observed.probe = probe(rest)
      },
    },
    ['Ready=False/BootstrapFailed', 'Reconciling=True/BootstrapFailed', 'EngineHealthy=False/BootstrapFailed'],
  ],
  [
    'the old pod is stopping',
    withPod(pod({ metadata: { ...pod().metadata, deletionTimestamp: '2026-11-23T12:00:00Z' } }, 'False')),
    ['Ready=False/Starting', 'Reconciling=True/Starting'],
  ],
  [
    'a Ready pod is of an older revision',
    withPod(pod({ metadata: { ...pod().metadata, labels: { 'controller-revision-hash': `${REVISION}x` } } })),
    ['Ready=True/Ready', 'Reconciling=True/Updating'],
  ],
  [
    'the image cannot be pulled',
    withPod(waitingPod('ImagePullBackOff')),
    ['Ready=False/ImagePullFailed', 'Reconciling=True/ImagePullFailed'],
  ],
  [
    'the name of the image is wrong',
    withPod(waitingPod('InvalidImageName')),
    ['Ready=False/ImagePullFailed', 'Reconciling=True/ImagePullFailed'],
  ],
  [
    'the container does not stay up',
    withPod(waitingPod('CrashLoopBackOff', { lastState: { terminated: { reason: 'OOMKilled', exitCode: 137 } } })),
    ['Ready=False/PodFailing', 'Reconciling=True/PodFailing'],
  ],
  [
    'a Secret that the pod mounts is missing',
    withPod(waitingPod('CreateContainerConfigError')),
    ['Ready=False/PodFailing', 'Reconciling=True/PodFailing'],
  ],
  [
    'no node fits',
    withPod(
      pod({
        spec: { containers: [] },
        status: {
          phase: 'Pending',
          conditions: [{ type: 'PodScheduled', status: 'False', reason: 'Unschedulable', message: '0/2 nodes' }],
        },
      }),
    ),
    ['Ready=False/PodPending', 'Reconciling=True/PodPending'],
  ],
  [
    'the node is lost, even if the pod was Ready',
    {
      change: observed => {
        observed.nodes = new Map([['node-1', node('Unknown')]])
        observed.probe = unanswered()
      },
    },
    ['Ready=False/NodeLost', 'Stalled=True/NodeLost', 'EngineHealthy=Unknown/FiguresUnavailable'],
  ],
  [
    'the claim is lost',
    {
      change: observed => {
        observed.pods = [pod({}, 'False')]
        observed.claims = [claim('1Gi', { phase: 'Lost' })]
        observed.probe = undefined
      },
    },
    ['Ready=False/VolumeMissing', 'Stalled=True/VolumeMissing'],
  ],
  [
    'the data is lost',
    refused('data_lost', { lineage: 'L1' }),
    ['Ready=False/DataLost', 'Stalled=True/DataLost', 'EngineHealthy=False/DataLost'],
  ],
  [
    'the volume belongs to somebody else',
    refused('foreign_volume', { lineage: 'L2', owner: 'shop/other' }),
    ['Ready=False/ForeignVolume', 'Stalled=True/ForeignVolume', 'EngineHealthy=False/ForeignVolume'],
  ],
  [
    'the volume belongs to somebody else, and somebody made its claim',
    {
      change: observed => {
        observed.pods = [pod({}, 'False')]
        observed.probe = failing('foreign_volume', { lineage: 'L2', owner: 'shop/other' })
        observed.claims = []
        observed.strayClaim = claim('1Gi')
      },
    },
    ['Ready=False/ForeignVolume', 'Stalled=True/ForeignVolume', 'EngineHealthy=False/ForeignVolume'],
  ],
  [
    'bootstrap meets data',
    refused('volume_not_empty', { lineage: 'L1' }),
    ['Ready=False/VolumeNotEmpty', 'Stalled=True/VolumeNotEmpty', 'EngineHealthy=False/VolumeNotEmpty'],
  ],
  [
    'another process holds the lock',
    refused('locked', { pod: 'orders-0', node: 'node-2' }),
    ['Ready=False/Locked', 'Reconciling=True/Locked', 'EngineHealthy=False/Locked'],
  ],
  [
    'the engine is damaged',
    refused('engine_corrupt', {}),
    ['Ready=False/Corrupt', 'Stalled=True/Corrupt', 'EngineHealthy=False/Corrupt'],
  ],
  [
    'something else keeps it from opening',
    refused('io_error', {}),
    ['Ready=False/NotReady', 'Reconciling=True/NotReady', 'EngineHealthy=False/NotReady'],
  ],
  [
    'damaged files were salvaged',
    saying({
      recovery: { action: 'Salvaged', quarantine: '20261128T041503Z-damaged', reached: '1.9', records: '7', lost: '2' },
      health: { state: 'DEGRADED', causes: [{ reason: 'Salvaged', message: '', since: 0 }] },
    }),
    ['Ready=True/Ready', 'EngineHealthy=False/Salvaged', 'StorageHealthy=True/EnoughSpace'],
  ],
  [
    'something else wrote to the files',
    saying({ health: { state: 'DEGRADED', causes: [{ reason: 'ForeignWrites', message: '', since: 0 }] } }),
    ['Ready=True/Ready', 'EngineHealthy=False/ForeignWrites', 'StorageHealthy=True/EnoughSpace'],
  ],
  [
    'the engine is slow',
    saying({ health: { state: 'DEGRADED', causes: [{ reason: 'WalLarge', message: '200 MB', since: 0 }] } }),
    ['Ready=True/Ready', 'EngineHealthy=False/Degraded', 'StorageHealthy=True/EnoughSpace'],
  ],
  [
    'the volume is full',
    saying({ health: { state: 'DEGRADED', causes: [{ reason: 'NoSpace', message: 'full', since: 0 }] } }),
    ['Ready=True/Ready', 'EngineHealthy=True/Healthy', 'StorageHealthy=False/NoSpace'],
  ],
  [
    'the volume is almost full',
    saying({ volume: { size: 1000, free: 100 } }),
    ['Ready=True/Ready', 'EngineHealthy=True/Healthy', 'StorageHealthy=False/AlmostFull'],
  ],
  [
    'the volume is full in a few days',
    saying({ volume: { size: 1000, free: 500, daysUntilFull: 3.5 } }),
    ['Ready=True/Ready', 'EngineHealthy=True/Healthy', 'StorageHealthy=False/FullSoon'],
  ],
  [
    'the pod does not answer the operator',
    {
      change: observed => {
        observed.probe = unanswered()
      },
    },
    ['Ready=True/Ready', 'EngineHealthy=Unknown/FiguresUnavailable'],
  ],
  [
    'the pod that answered is gone, and its successor has not been asked',
    {
      change: observed => {
        const { metadata, ...rest } = pod({}, 'False')
        observed.pods = [{ ...rest, metadata: { ...metadata, uid: 'pod-2' } }]
        observed.probe = probe()
      },
    },
    ['Ready=False/Starting', 'Reconciling=True/Starting', 'EngineHealthy=Unknown/FiguresUnavailable'],
  ],
  ['it goes to sleep', { spec: { hibernate: true } }, ['Ready=False/Hibernating', 'Reconciling=True/Hibernating']],
  [
    'it sleeps',
    {
      spec: { hibernate: true },
      change: observed => {
        observed.pods = []
      },
    },
    ['Ready=False/Hibernated'],
  ],
]

describe('what is said when', () => {
  test.each(TABLE)('%s', (_, input, expected) => expect(findingsInWords(found(input))).toEqual(expected))

  test('objects are being changed: Ready, and Updating', () => {
    expect(findingsInWords(found({}, true))).toEqual(['Ready=True/Ready', 'Reconciling=True/Updating', ...HEALTHY])
  })

  test('the answer is of a pod that is gone: it does not count', () => {
    const old = { ...failing('data_lost', { lineage: 'L1' }), pod: 'pod-0', time: NOW }
    expect(findingsInWords(found(notReady(old)))).toContain('Ready=False/Starting')
  })
})

describe('messages', () => {
  const messages = (input: Scene) => found(input).map(({ reason, values }) => messageOf(reason, values))

  test.each(TABLE)('leave no value open when %s', (_, input) => {
    for (const message of messages(input)) expect(message).not.toMatch(/\{\w+\}/)
  })

  test('name the node and since when', () => {
    const lost: Scene = {
      change: observed => {
        observed.nodes = new Map([['node-1', node('Unknown')]])
      },
    }
    expect(messages(lost)[0]).toMatch(/^Node node-1 of pod orders-0 does not answer since 2026-11-23T11:59:00Z/)
  })

  test('name exit and reason of a container that ended', () => {
    const ended = { lastState: { terminated: { reason: 'OOMKilled', exitCode: 137 } } }
    expect(messages(withPod(waitingPod('CrashLoopBackOff', ended)))[0]).toContain('last ended with OOMKilled (137)')
  })
})

function atWork(lifecycle: string): Scene {
  const { data: _data, health: _health, ...rest } = serving({ ready: false, state: 'Starting', lifecycle })
  return {
    spec: { bootstrap: { restore: { backup: 'old-daily' } } },
    change: observed => {
      observed.pods = [pod({}, 'False')]
      observed.probe = probe(rest)
    },
  }
}
