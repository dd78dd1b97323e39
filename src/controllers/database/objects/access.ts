import type { KubeObject } from '../../../kube/object.ts'
import { ownedMeta } from '../names.ts'
import type { Blueprint } from './blueprint.ts'

/** One account for the pods, without any right and without a token; one for backup jobs. */
export function serviceAccounts({ names, namespace, name, owner }: Blueprint): readonly KubeObject[] {
  return [names.podAccount, names.jobAccount].map(
    account =>
      ({
        apiVersion: 'v1',
        kind: 'ServiceAccount',
        metadata: ownedMeta(account, namespace, name, owner),
        automountServiceAccountToken: false,
      }) as KubeObject,
  )
}

/** What a backup job may do: keep the records of backups of its namespace, and read its own database and Job. */
export function roles({ names, namespace, name, owner }: Blueprint): readonly KubeObject[] {
  return [
    {
      apiVersion: 'rbac.authorization.k8s.io/v1',
      kind: 'Role',
      metadata: ownedMeta(names.jobAccount, namespace, name, owner),
      rules: [
        { apiGroups: ['kvidx.io'], resources: ['kvidxdatabases'], resourceNames: [name], verbs: ['get'] },
        { apiGroups: ['kvidx.io'], resources: ['kvidxbackups'], verbs: ['get', 'list', 'create', 'patch', 'delete'] },
        { apiGroups: ['kvidx.io'], resources: ['kvidxbackups/status'], verbs: ['patch'] },
        { apiGroups: ['kvidx.io'], resources: ['kvidxrestores'], verbs: ['get'] },
        { apiGroups: ['kvidx.io'], resources: ['kvidxrestores/status'], verbs: ['patch'] },
        { apiGroups: ['batch'], resources: ['jobs'], verbs: ['get'] },
        {
          apiGroups: ['snapshot.storage.k8s.io'],
          resources: ['volumesnapshots'],
          verbs: ['get', 'list', 'create', 'patch', 'delete'],
        },
      ],
    } as KubeObject,
  ]
}

export function roleBindings({ names, namespace, name, owner }: Blueprint): readonly KubeObject[] {
  return [
    {
      apiVersion: 'rbac.authorization.k8s.io/v1',
      kind: 'RoleBinding',
      metadata: ownedMeta(names.jobAccount, namespace, name, owner),
      roleRef: { apiGroup: 'rbac.authorization.k8s.io', kind: 'Role', name: names.jobAccount },
      subjects: [{ kind: 'ServiceAccount', name: names.jobAccount, namespace }],
    } as KubeObject,
  ]
}
