/**
 * Bundles the program, and the thread that reads lists, into dist/: without what they do not use of their packages.
 *   node scripts/bundle.ts                the program
 *   node scripts/bundle.ts FILE ...       other files, into .cache/bundles
 */
import { mkdirSync, rmSync, writeFileSync } from 'node:fs'
import { dirname } from 'node:path'
import { build as bundle, type BuildOptions, type Plugin } from 'esbuild'

/** client-node does not say that its 1,500 generated files have no side effects; unused ones may go. */
const shakeClientNode: Plugin = {
  name: 'shake-client-node',
  setup(build) {
    build.onResolve(
      { filter: /^(@kubernetes\/client-node$|\.)/ },
      async ({ path, pluginData, ...context }) => {
        if (pluginData === 'resolved') return undefined
        const found = await build.resolve(path, { ...context, pluginData: 'resolved' })
        return found.path.includes('/@kubernetes/client-node/') ? { ...found, sideEffects: false } : found
      },
    )
  },
}

/**
 * client-node loads undici, and socks for it, for requests that we do not make through it (ours go through
 * node:https): 1.5 MB that would be read at every start. Whoever calls it after all is told so.
 */
const withoutUndici: Plugin = {
  name: 'without-undici',
  setup(build) {
    build.onResolve({ filter: /^(undici|socks)$/ }, ({ path, importer }) =>
      importer.includes('/@kubernetes/client-node/') ? { path, namespace: 'without-undici' } : undefined,
    )
    build.onLoad({ filter: /./, namespace: 'without-undici' }, () => ({
      contents: `const absent = () => { throw new Error('undici is not part of the bundle') }
        export { absent as Agent, absent as ProxyAgent, absent as fetch, absent as FormData, absent as SocksClient }`,
    }))
  },
}

/** A proxy before the API server that speaks SOCKS is rare: its client is loaded when there is one. */
const lateSocks: Plugin = {
  name: 'late-socks',
  setup(build) {
    build.onResolve({ filter: /^socks-proxy-agent$/ }, async ({ path, pluginData, ...context }) => {
      if (pluginData === 'resolved') return undefined
      const found = await build.resolve(path, { ...context, pluginData: 'resolved' })
      return { path: found.path, namespace: 'late-socks' }
    })
    build.onLoad({ filter: /./, namespace: 'late-socks' }, ({ path }) => ({
      contents: `export function SocksProxyAgent(...options) {
        return new (require(${JSON.stringify(path)}).SocksProxyAgent)(...options)
      }`,
      resolveDir: dirname(path),
    }))
  },
}

/** Of the package netlink only its addon, and what loads it, stays outside: a file takes longer to find than to run. */
const netlinkAddonOutside: Plugin = {
  name: 'netlink-addon-outside',
  setup(build) {
    build.onResolve({ filter: /^\.\/raw$/ }, ({ importer }) =>
      importer.includes('/node_modules/netlink/')
        ? { path: 'netlink/dist/raw.js', external: true }
        : undefined,
    )
  },
}

/**
 * CommonJS, for the sake of the start: importing node:http as an ES module makes Node load its whole fetch.
 */
const OPTIONS: BuildOptions = {
  bundle: true,
  platform: 'node',
  format: 'cjs',
  target: 'node22',
  outExtension: { '.js': '.cjs' },
  external: ['node-gyp-build'],
  plugins: [withoutUndici, lateSocks, netlinkAddonOutside, shakeClientNode],
  define: {
    'import.meta.dirname': '__dirname',
    'import.meta.filename': '__filename',
    'import.meta.url': '__filename',
  },
  sourcemap: true,
  legalComments: 'none',
  logLevel: 'warning',
}

/** The few other characters, in comments and patterns, as escapes: Node keeps the text in half the memory. */
function ascii(text: string): string {
  return text.replaceAll(/[^\0-\x7f]/g, (unit) => `\\u${unit.charCodeAt(0).toString(16).padStart(4, '0')}`)
}

const PROGRAM = { 'kube-ipvs': 'src/main.ts', 'page-thread': 'src/source/page-thread.ts' }

const others = process.argv.slice(2)
if (others.length > 0) {
  // For the lab, where loading many files takes longer than running them.
  await bundle({ ...OPTIONS, entryPoints: others, entryNames: '[name]', outdir: '.cache/bundles' })
} else {
  const { outputFiles } = await bundle({ ...OPTIONS, entryPoints: PROGRAM, outdir: 'dist', write: false })
  rmSync('dist', { recursive: true, force: true })
  mkdirSync('dist')
  for (const { path, text } of outputFiles)
    writeFileSync(path, ascii(text), { mode: text.startsWith('#!') ? 0o755 : 0o644 })
}
