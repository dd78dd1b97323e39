import type { Resource } from './object.ts'

function resource(group: string, version: string, plural: string, kind: string, namespaced = true): Resource {
  return Object.freeze({ group, version, plural, kind, namespaced })
}

/** The built-in kinds that an operator meets. Its own kinds stand with their schemas in src/api. */
export const CONFIG_MAPS = resource('', 'v1', 'configmaps', 'ConfigMap')
export const NAMESPACES = resource('', 'v1', 'namespaces', 'Namespace', false)
export const NODES = resource('', 'v1', 'nodes', 'Node', false)
export const PERSISTENT_VOLUMES = resource('', 'v1', 'persistentvolumes', 'PersistentVolume', false)
export const PERSISTENT_VOLUME_CLAIMS = resource('', 'v1', 'persistentvolumeclaims', 'PersistentVolumeClaim')
export const PODS = resource('', 'v1', 'pods', 'Pod')
export const SECRETS = resource('', 'v1', 'secrets', 'Secret')
export const SERVICES = resource('', 'v1', 'services', 'Service')
export const SERVICE_ACCOUNTS = resource('', 'v1', 'serviceaccounts', 'ServiceAccount')
export const DEPLOYMENTS = resource('apps', 'v1', 'deployments', 'Deployment')
export const STATEFUL_SETS = resource('apps', 'v1', 'statefulsets', 'StatefulSet')
export const CRON_JOBS = resource('batch', 'v1', 'cronjobs', 'CronJob')
export const JOBS = resource('batch', 'v1', 'jobs', 'Job')
export const LEASES = resource('coordination.k8s.io', 'v1', 'leases', 'Lease')
export const EVENTS = resource('events.k8s.io', 'v1', 'events', 'Event')
export const NETWORK_POLICIES = resource('networking.k8s.io', 'v1', 'networkpolicies', 'NetworkPolicy')
export const POD_DISRUPTION_BUDGETS = resource('policy', 'v1', 'poddisruptionbudgets', 'PodDisruptionBudget')
export const ROLES = resource('rbac.authorization.k8s.io', 'v1', 'roles', 'Role')
export const ROLE_BINDINGS = resource('rbac.authorization.k8s.io', 'v1', 'rolebindings', 'RoleBinding')
export const STORAGE_CLASSES = resource('storage.k8s.io', 'v1', 'storageclasses', 'StorageClass', false)
export const VOLUME_SNAPSHOTS = resource('snapshot.storage.k8s.io', 'v1', 'volumesnapshots', 'VolumeSnapshot')
export const CUSTOM_RESOURCE_DEFINITIONS = resource(
  'apiextensions.k8s.io',
  'v1',
  'customresourcedefinitions',
  'CustomResourceDefinition',
  false,
)
