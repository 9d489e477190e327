// An app that forwards the paths of Vaultsync. It compresses responses, as Next.js does by default.

/** @type {import("next").NextConfig} */
export default {
  // The URL becomes part of the build.
  rewrites: async () => [
    { source: "/api/sync/:path*", destination: `${process.env.VAULTSYNC_URL}/api/sync/:path*` },
  ],
  experimental: {
    // Above the longest `wait` (55 s); the default is 30 s.
    proxyTimeout: 75_000,
    // Above `body_bytes_max` (16 MiB). Of a longer body, only the beginning is passed on; the default is 10 MB.
    proxyClientMaxBodySize: "17mb",
  },
};
