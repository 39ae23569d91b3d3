package main

// The parts of SPDX 2.3 that we use, in the order in which they are written.

type document struct {
	SPDXVersion   string         `json:"spdxVersion"`
	DataLicense   string         `json:"dataLicense"`
	SPDXID        string         `json:"SPDXID"`
	Name          string         `json:"name"`
	Namespace     string         `json:"documentNamespace"`
	CreationInfo  creationInfo   `json:"creationInfo"`
	Packages      []pkg          `json:"packages"`
	Relationships []relationship `json:"relationships"`
}

type creationInfo struct {
	Created  string   `json:"created"`
	Creators []string `json:"creators"`
}

type pkg struct {
	SPDXID           string      `json:"SPDXID"`
	Name             string      `json:"name"`
	VersionInfo      string      `json:"versionInfo"`
	Purpose          string      `json:"primaryPackagePurpose,omitempty"`
	DownloadLocation string      `json:"downloadLocation"`
	FilesAnalyzed    bool        `json:"filesAnalyzed"`
	License          string      `json:"licenseConcluded"`
	Declared         string      `json:"licenseDeclared"`
	Copyright        string      `json:"copyrightText"`
	Comment          string      `json:"comment,omitempty"`
	Checksums        []checksum  `json:"checksums,omitempty"`
	References       []reference `json:"externalRefs,omitempty"`
}

// complete fills in what SPDX wants and we do not say.
func (p pkg) complete() pkg {
	const nothing = "NOASSERTION"
	p.DownloadLocation, p.Copyright = nothing, nothing
	if p.License == "" {
		p.License = nothing
	}
	p.Declared = p.License
	return p
}

type checksum struct {
	Algorithm string `json:"algorithm"`
	Value     string `json:"checksumValue"`
}

type reference struct {
	Category string `json:"referenceCategory"`
	Type     string `json:"referenceType"`
	Locator  string `json:"referenceLocator"`
}

type relationship struct {
	From string `json:"spdxElementId"`
	How  string `json:"relationshipType"`
	To   string `json:"relatedSpdxElement"`
}
