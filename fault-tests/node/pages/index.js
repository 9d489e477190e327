// Next.js builds no app without a page.
export default function Page() {
  return null;
}
