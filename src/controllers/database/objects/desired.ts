import type { KubeObject, Resource } from '../../../kube/object.ts'
import {
  CONFIG_MAPS,
  CRON_JOBS,
  NETWORK_POLICIES,
  POD_DISRUPTION_BUDGETS,
  ROLE_BINDINGS,
  ROLES,
  SERVICE_ACCOUNTS,
  SERVICES,
  STATEFUL_SETS,
} from '../../../kube/resources.ts'
import { roleBindings, roles, serviceAccounts } from './access.ts'
import type { Blueprint } from './blueprint.ts'
import { configMap } from './config-map.ts'
import { cronJobs } from './cron-jobs.ts'
import { disruptionBudget } from './disruption-budget.ts'
import { networkPolicy } from './network-policy.ts'
import { services } from './services.ts'
import { statefulSet } from './stateful-set.ts'

/** One kind of owned object: the one list from which creation, order and clean-up follow. */
export interface Component {
  readonly resource: Resource
  /** In the order in which they are applied. An empty list: what is there is deleted. */
  desired(blueprint: Blueprint): readonly KubeObject[]
  /** Made once with random content and then left to its owner. */
  readonly createOnly?: true
}

/** In the order in which a pod needs them. The Secret is made apart: it is created once and never applied. */
export const COMPONENTS: readonly Component[] = [
  { resource: SERVICE_ACCOUNTS, desired: serviceAccounts },
  { resource: ROLES, desired: roles },
  { resource: ROLE_BINDINGS, desired: roleBindings },
  { resource: CONFIG_MAPS, desired: blueprint => [configMap(blueprint)] },
  { resource: SERVICES, desired: services },
  { resource: NETWORK_POLICIES, desired: networkPolicy },
  { resource: POD_DISRUPTION_BUDGETS, desired: disruptionBudget },
  { resource: STATEFUL_SETS, desired: blueprint => [statefulSet(blueprint)] },
  { resource: CRON_JOBS, desired: cronJobs },
]
