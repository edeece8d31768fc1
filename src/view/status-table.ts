/** What the table of the status page can be asked for: by the page, and answered by the program. */

/** Rows of one page. */
export const MAX_ROWS = 100

export const SORTS = ['service', 'state', 'realServers', 'connections', 'packets', 'bytes'] as const
export type Sort = (typeof SORTS)[number]
export const ORDERS = ['ascending', 'descending'] as const
export type Order = (typeof ORDERS)[number]
