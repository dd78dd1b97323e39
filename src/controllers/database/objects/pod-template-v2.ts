import type { Blueprint } from './blueprint.ts'
import type { PodTemplate } from './pod-template.ts'
import { podTemplateV1 } from './pod-template-v1.ts'

/** Between the order to stop and the stop: in this time the Services forget the pod, and containers beside it write their last. */
const STOP_DELAY_SECONDS = 3

/**
 * Version 2 of the pod: the database goes on serving for a moment while the pod is taken out of the Services, and while application containers,
 * which are told to stop at the same time, finish. Never change what it gives for a spec: write a version 3.
 */
export function podTemplateV2(blueprint: Blueprint): PodTemplate['spec'] {
  const pod = podTemplateV1(blueprint)
  const lifecycle = { preStop: { sleep: { seconds: STOP_DELAY_SECONDS } } }
  return {
    ...pod,
    containers: pod.containers.map(container => (container.name === 'kvidx' ? { ...container, lifecycle } : container)),
  }
}
